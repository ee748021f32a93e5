//! Reads what a program says of itself: `--help`, and `help NAME` of each of its subcommands.
//!
//! It is asked for lines that do not wrap, so that each paragraph of the help is one line. What looks like nothing known stays text;
//! nothing is left out.

use std::path::Path;
use std::process::Command;

use crate::error::{Error, Result};
use crate::programs::run;

/// Wide enough that no line of a help is wrapped.
const COLUMNS: &str = "30000";
/// How deep subcommands may lie in each other.
const DEPTH_MAX: usize = 4;
/// Less than this before the text of an item, and it belongs to the item's name.
const GAP: &str = "  ";

/// The help of a program or subcommand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The words by which it is called: `kumod spool inspect`.
    pub call: String,
    /// What it does, a paragraph each.
    pub about: Vec<String>,
    /// Its command lines, the call included.
    pub usage: Vec<String>,
    /// The rest, in order.
    pub sections: Vec<Section>,
    /// Its subcommands.
    pub subcommands: Vec<Self>,
}

/// A part of the help.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Section {
    /// Subcommands, arguments or options under a heading.
    Items {
        /// Without its colon.
        title: String,
        /// One for each.
        items: Vec<Item>,
    },
    /// Lines that were laid out by hand, under a heading.
    Block {
        /// Without its colon.
        title: String,
        /// Without the two columns that all of them are indented by.
        lines: Vec<String>,
    },
    /// A paragraph without a heading.
    Text(String),
}

/// A subcommand, an argument or an option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// `-c, --concurrency <N>`, `<PATH>...`, `inspect`.
    pub name: String,
    /// What it means, a paragraph each; what begins with `- ` is one of its values.
    pub text: Vec<String>,
}

/// Asks a program and all of its subcommands.
///
/// # Errors
/// It does not run, or does not end with 0.
pub fn ask(program: &Path, name: &str) -> Result<Page> {
    ask_at(program, &[name.to_owned()])
}

fn ask_at(program: &Path, call: &[String]) -> Result<Page> {
    let mut command = Command::new(program);
    match &call[1..] {
        [] => command.arg("--help"),
        // Not every subcommand knows `--help` where `-h` means something else.
        names => command.arg("help").args(names),
    };
    command.env("COLUMNS", COLUMNS).env("NO_COLOR", "1");
    let output = run(&mut command)?;
    let mut page = read(&call.join(" "), &String::from_utf8_lossy(&output.stdout))?;
    if call.len() <= DEPTH_MAX {
        for name in page.subcommand_names() {
            page.subcommands.push(ask_at(program, &[call, &[name]].concat())?);
        }
    }
    Ok(page)
}

/// The version that a program says it has.
///
/// # Errors
/// It does not run, or says something else.
pub fn version(program: &Path) -> Result<String> {
    let output = run(Command::new(program).arg("--version"))?;
    let said = String::from_utf8_lossy(&output.stdout);
    let version = said.split_whitespace().nth(1).map(str::to_owned);
    version.ok_or_else(|| Error::Operator(format!("{}: --version says {said:?}", program.display())))
}

impl Page {
    /// Names of its subcommands, without the one that prints help.
    pub fn subcommand_names(&self) -> Vec<String> {
        let items = self.sections.iter().flat_map(|section| match section {
            Section::Items { title, items } if title == "Commands" => items.as_slice(),
            _ => &[],
        });
        items.map(|item| item.name.clone()).filter(|name| name != "help").collect()
    }

    /// All of its options, under whatever heading.
    pub fn options(&self) -> impl Iterator<Item = &Item> {
        let items = self.sections.iter().flat_map(|section| match section {
            Section::Items { items, .. } => items.as_slice(),
            _ => &[],
        });
        items.filter(|item| item.name.starts_with('-'))
    }
}

/// Reads one help text.
///
/// # Errors
/// There is no line that begins with `Usage:`.
pub fn read(call: &str, text: &str) -> Result<Page> {
    let no_usage = || Error::Operator(format!("`{call} --help` shows no usage"));
    let (about, rest) = text.split_once("\nUsage: ").ok_or_else(no_usage)?;
    let (usage, rest) = rest.split_once("\n\n").unwrap_or((rest, ""));
    let about = about.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect();
    let usage = usage.lines().map(|line| line.trim().to_owned()).collect();
    let lines: Vec<&str> = rest.lines().collect();
    Ok(Page { call: call.to_owned(), about, usage, sections: sections(&lines), subcommands: Vec::new() })
}

fn sections(lines: &[&str]) -> Vec<Section> {
    let mut sections = Vec::new();
    let mut rest = lines;
    while let [line, after @ ..] = rest {
        if line.trim().is_empty() {
            rest = after;
        } else if let Some(title) = line.strip_suffix(':').filter(|_| !line.starts_with(' ')) {
            let end = after.iter().position(|line| !line.is_empty() && !line.starts_with(' '));
            let (inside, next) = after.split_at(end.unwrap_or(after.len()));
            sections.push(titled(title, inside));
            rest = next;
        } else {
            let end = rest.iter().position(|line| line.trim().is_empty()).unwrap_or(rest.len());
            let (paragraph, next) = rest.split_at(end);
            let text: Vec<&str> = paragraph.iter().map(|line| line.trim()).collect();
            sections.push(Section::Text(text.join(" ")));
            rest = next;
        }
    }
    sections
}

fn titled(title: &str, lines: &[&str]) -> Section {
    let title = title.to_owned();
    let are_options = lines.iter().find(|line| !line.trim().is_empty()).is_some_and(|line| is_option(line));
    if are_options || title == "Commands" || title == "Arguments" {
        return Section::Items { title, items: items(lines) };
    }
    let lines = lines.iter().map(|line| line.strip_prefix(GAP).unwrap_or(line).to_owned());
    let mut lines: Vec<String> = lines.collect();
    while lines.last().is_some_and(|line| line.trim().is_empty()) {
        lines.pop();
    }
    Section::Block { title, lines }
}

/// Options stand two columns in, or six where they have no short name.
fn is_option(line: &str) -> bool {
    let bare = line.trim_start();
    bare.starts_with('-') && !bare.starts_with("- ") && line.len() - bare.len() <= 6
}

fn items(lines: &[&str]) -> Vec<Item> {
    let mut items: Vec<Item> = Vec::new();
    for line in lines {
        let bare = line.trim();
        let indent = line.len() - line.trim_start().len();
        if bare.is_empty() {
            continue;
        }
        if indent == 2 || is_option(line) {
            // Behind the short name of an option comes one space, behind the name of an item at least two.
            let (name, text) = bare.split_once(GAP).unwrap_or((bare, ""));
            let text = Some(text.trim()).filter(|text| !text.is_empty());
            items.push(Item { name: name.to_owned(), text: text.into_iter().map(str::to_owned).collect() });
        } else if let Some(item) = items.last_mut() {
            item.text.push(bare.split_whitespace().collect::<Vec<_>>().join(" "));
        }
    }
    items
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const SHORT: &str = "\
Looks at the spool

Usage: kumod spool <COMMAND>
       kumod spool

Commands:
  inspect  Shows segments; also while kumod runs
  help     Print this message

Options:
      --spool <DIR>        The folder [default: /var/spool/kumod]
  -h, --help               Print help

Examples:
  What is in it:
    kumod spool inspect

inspect works while kumod runs.
Exit codes: 0 ok, 1 failed.
";

    const LONG: &str = "\
Relays mail

And does so quickly.

Usage: kumod [OPTIONS]

Options:
      --durability <DURABILITY>
          What a 250 promises

          Possible values:
          - commit:   on stable storage
          - written:  the kernel has it
          
          [default: commit]

  -4
          Take an IPv4 address
";

    #[test]
    fn a_help_of_single_lines_is_read() {
        let page = read("kumod spool", SHORT).unwrap();
        assert_eq!(page.about, ["Looks at the spool"]);
        assert_eq!(page.usage, ["kumod spool <COMMAND>", "kumod spool"]);
        assert_eq!(page.subcommand_names(), ["inspect"]);
        let spool = page.options().next().unwrap();
        assert_eq!(spool.name, "--spool <DIR>");
        assert_eq!(spool.text, ["The folder [default: /var/spool/kumod]"]);
        let [_, _, examples, rest] = page.sections.as_slice() else { panic!("{page:?}") };
        let lines = ["What is in it:", "  kumod spool inspect"].map(str::to_owned).to_vec();
        assert_eq!(*examples, Section::Block { title: "Examples".into(), lines });
        let text = "inspect works while kumod runs. Exit codes: 0 ok, 1 failed.";
        assert_eq!(*rest, Section::Text(text.into()));
    }

    #[test]
    fn a_help_of_paragraphs_is_read() {
        let page = read("kumod", LONG).unwrap();
        assert_eq!(page.about, ["Relays mail", "And does so quickly."]);
        let options: Vec<&Item> = page.options().collect();
        assert_eq!(options.len(), 2);
        assert_eq!(options[0].name, "--durability <DURABILITY>");
        assert_eq!(
            options[0].text,
            [
                "What a 250 promises",
                "Possible values:",
                "- commit: on stable storage",
                "- written: the kernel has it",
                "[default: commit]"
            ]
        );
        assert_eq!((options[1].name.as_str(), options[1].text.len()), ("-4", 1));
    }

    #[test]
    fn what_is_no_help_is_refused() {
        assert!(read("kumod", "no such thing\n").unwrap_err().to_string().contains("kumod --help"));
    }
}
