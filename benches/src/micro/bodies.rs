//! How a body is looked at: the whole-body check, dot-unstuffing and dot-stuffing.
//!
//! It owns bodies of lines of 76 characters, every tenth beginning with a dot; they stay in the processor's cache, as they do in
//! kumod. Nothing here fails: the bodies are clean.

use std::hint::black_box;

use smtp::data::{self, BodyRules, Unstuffed, Unstuffer};

use super::measure::repeatedly;
use super::{Operation, Spent};
use crate::error::Result;

/// A body, and the same with its dots doubled.
pub struct Body {
    plain: Vec<u8>,
    stuffed: Vec<u8>,
    out: Vec<u8>,
}

/// What is done with a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// Line ends and line lengths.
    Check,
    /// Finds the end and takes the doubled dots out.
    Unstuff,
    /// Doubles the dots.
    Stuff,
}

impl Body {
    /// Of about so many bytes, in whole lines.
    pub fn of(bytes: usize) -> Self {
        let lines =
            (0..).map(|line| if line % 10 == 0 { ".".to_owned() + &"y".repeat(75) } else { "x".repeat(76) });
        let plain: String = lines.take(bytes / 78).map(|line| line + "\r\n").collect();
        let plain = plain.into_bytes();
        let mut stuffed = Vec::new();
        data::stuff(&[&plain], &mut stuffed);
        Self { out: Vec::with_capacity(stuffed.len()), plain, stuffed }
    }

    /// The body itself.
    pub fn plain(&self) -> &[u8] {
        &self.plain
    }

    /// One pass. Returns the bytes that came out, or of a clean body that was checked, its own.
    pub fn pass(&mut self, pass: Pass) -> usize {
        match pass {
            Pass::Check => {
                let clean = data::check(black_box(&self.plain), &BodyRules::default()).is_ok();
                if clean { self.plain.len() } else { 0 }
            }
            Pass::Unstuff => unstuff(black_box(&self.stuffed)),
            Pass::Stuff => {
                self.out.clear();
                data::stuff(&[black_box(&self.plain)], &mut self.out);
                self.out.len()
            }
        }
    }
}

/// A pass over a body, again and again.
pub struct Passes {
    /// The body.
    pub body: Body,
    /// What is done with it.
    pub pass: Pass,
}

impl Operation for Passes {
    fn run(&mut self, operations: u64) -> Result<Spent> {
        let Self { body, pass } = self;
        Ok(repeatedly(operations, || body.pass(*pass)))
    }
}

fn unstuff(mut stuffed: &[u8]) -> usize {
    let mut unstuffer = Unstuffer::new();
    let mut bytes = 0;
    while !stuffed.is_empty() {
        let (consumed, part) = unstuffer.step(stuffed);
        if let Unstuffed::Body(part) = black_box(part) {
            bytes += part.len();
        }
        if consumed == 0 {
            break;
        }
        stuffed = &stuffed[consumed..];
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pass_goes_over_the_whole_body() {
        let mut body = Body::of(1000);
        let bytes = body.plain().len();
        assert_eq!(bytes, 12 * 78);
        assert_eq!(body.pass(Pass::Check), bytes);
        assert_eq!(body.pass(Pass::Unstuff), bytes);
        // Two of twelve lines begin with a dot, and the body ends with a line of its own.
        assert_eq!(body.pass(Pass::Stuff), bytes + 2 + ".\r\n".len());
    }
}
