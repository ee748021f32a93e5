//! Arithmetic of the rules: whole numbers, the sizes of the host, `+ - * /`, `min`, `max`, `pow2`.
//!
//! Owns a small language, so that a rule can follow the host and stay data. Refuses unknown names and unbalanced text
//! with the place. Results saturate; a division by zero is zero, because no rule means anything by it.

use std::fmt;

use crate::sizing::Sizing;

/// Most nested parentheses; a rule needs two.
const DEPTH_MAX: usize = 16;

/// A number that may depend on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Formula {
    text: String,
    root: Node,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    Number(u64),
    Size(Size),
    Binary(char, Box<Self>, Box<Self>),
    /// The next power of two.
    Power(Box<Self>),
    Least(Box<Self>, Box<Self>),
    Most(Box<Self>, Box<Self>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Size {
    Connections,
    Rate,
    RamBytes,
    Cores,
}

impl Formula {
    /// Reads a formula.
    ///
    /// # Errors
    /// What is wrong with the text, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut reader = Reader { rest: text, depth: 0 };
        let root = reader.sum()?;
        if reader.rest.trim().is_empty() {
            Ok(Self { text: text.trim().to_owned(), root })
        } else {
            Err(format!("`{text}`: cannot read from `{}` on", reader.rest.trim()))
        }
    }

    /// Its value on a host of this size.
    pub fn value(&self, sizing: &Sizing) -> u64 {
        value(&self.root, sizing)
    }

    /// Whether it is a plain number.
    pub fn is_constant(&self) -> bool {
        matches!(self.root, Node::Number(_))
    }
}

impl fmt::Display for Formula {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

fn value(node: &Node, sizing: &Sizing) -> u64 {
    let of = |node: &Node| value(node, sizing);
    match node {
        Node::Number(number) => *number,
        Node::Size(Size::Connections) => sizing.connections,
        Node::Size(Size::Rate) => sizing.rate,
        Node::Size(Size::RamBytes) => sizing.ram_bytes,
        Node::Size(Size::Cores) => sizing.cores,
        Node::Binary('+', left, right) => of(left).saturating_add(of(right)),
        Node::Binary('-', left, right) => of(left).saturating_sub(of(right)),
        Node::Binary('*', left, right) => of(left).saturating_mul(of(right)),
        Node::Binary(_, left, right) => of(left).checked_div(of(right)).unwrap_or(0),
        Node::Power(inner) => of(inner).checked_next_power_of_two().unwrap_or(1 << 63),
        Node::Least(left, right) => of(left).min(of(right)),
        Node::Most(left, right) => of(left).max(of(right)),
    }
}

/// Reads from the left, one precedence per function.
struct Reader<'t> {
    rest: &'t str,
    depth: usize,
}

impl<'t> Reader<'t> {
    fn sum(&mut self) -> Result<Node, String> {
        let mut left = self.product()?;
        while let Some(sign) = self.any_of(&['+', '-']) {
            left = Node::Binary(sign, Box::new(left), Box::new(self.product()?));
        }
        Ok(left)
    }

    fn product(&mut self) -> Result<Node, String> {
        let mut left = self.atom()?;
        while let Some(sign) = self.any_of(&['*', '/']) {
            left = Node::Binary(sign, Box::new(left), Box::new(self.atom()?));
        }
        Ok(left)
    }

    fn atom(&mut self) -> Result<Node, String> {
        if self.any_of(&['(']).is_some() {
            return self.inside(Self::sum);
        }
        let word = self.word();
        if let Ok(number) = word.parse() {
            return Ok(Node::Number(number));
        }
        match word {
            "connections" => Ok(Node::Size(Size::Connections)),
            "rate" => Ok(Node::Size(Size::Rate)),
            "ram_bytes" => Ok(Node::Size(Size::RamBytes)),
            "cores" => Ok(Node::Size(Size::Cores)),
            "max" | "min" | "pow2" => self.call(word),
            _ => Err(format!(
                "`{word}` is neither a number nor one of connections, rate, ram_bytes, cores, max, min, pow2"
            )),
        }
    }

    fn call(&mut self, function: &str) -> Result<Node, String> {
        self.expect('(')?;
        self.inside(|reader| {
            let first = Box::new(reader.sum()?);
            if function == "pow2" {
                return Ok(Node::Power(first));
            }
            reader.expect(',')?;
            let second = Box::new(reader.sum()?);
            Ok(if function == "max" { Node::Most(first, second) } else { Node::Least(first, second) })
        })
    }

    /// The rest of a parenthesis that was opened.
    fn inside(&mut self, read: impl FnOnce(&mut Self) -> Result<Node, String>) -> Result<Node, String> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(format!("more than {DEPTH_MAX} parentheses within each other"));
        }
        let node = read(self)?;
        self.depth -= 1;
        self.expect(')')?;
        Ok(node)
    }

    fn word(&mut self) -> &'t str {
        let rest = self.rest.trim_start();
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len());
        let (word, rest) = rest.split_at(end);
        self.rest = rest;
        word
    }

    fn any_of(&mut self, signs: &[char]) -> Option<char> {
        let rest = self.rest.trim_start();
        let sign = rest.chars().next().filter(|sign| signs.contains(sign))?;
        self.rest = &rest[sign.len_utf8()..];
        Some(sign)
    }

    fn expect(&mut self, sign: char) -> Result<(), String> {
        self.any_of(&[sign]).map(|_| ()).ok_or_else(|| format!("`{sign}` is missing before `{}`", self.rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> u64 {
        let sizing = Sizing { connections: 20_000, rate: 2000, ram_bytes: 1 << 30, cores: 2 };
        Formula::parse(text).unwrap().value(&sizing)
    }

    #[test]
    fn formulas_follow_the_size_of_the_host() {
        assert_eq!(of("4096"), 4096);
        assert_eq!(of("max(4096, pow2(connections / 8))"), 4096);
        assert_eq!(of("max(4096, pow2(connections))"), 32_768);
        assert_eq!(of("1 + 2 * 3 - min(cores, 7)"), 5);
        assert_eq!(of("(1 + 2) * 3"), 9);
        assert_eq!(of("ram_bytes / 0"), 0);
        assert_eq!(of("ram_bytes * ram_bytes * ram_bytes"), u64::MAX);
    }

    #[test]
    fn a_slip_is_named() {
        let problem = |text: &str| Formula::parse(text).unwrap_err();
        assert!(problem("max(1, conections)").starts_with("`conections` is neither"));
        assert_eq!(problem("max(1 2)"), "`,` is missing before ` 2)`");
        assert_eq!(problem("1 2"), "`1 2`: cannot read from `2` on");
        assert!(problem(&"(".repeat(40)).contains("more than 16"));
    }
}
