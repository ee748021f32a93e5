//! The line that says what the laboratory is doing right now.
//!
//! It owns standard error. On a terminal one line is rewritten; elsewhere each step is a line of its own, and nothing is
//! printed between. A standard error that is closed is not worth failing for.

use std::io::{IsTerminal, Write};
use std::time::Instant;

/// The live line. Keep one per laboratory.
#[derive(Debug)]
pub struct Progress {
    terminal: bool,
    step: String,
    steps_done: u32,
    steps: u32,
    began: Instant,
}

impl Progress {
    /// For so many steps; the number only serves the counter in front.
    pub fn new(steps: u32) -> Self {
        let terminal = std::io::stderr().is_terminal();
        Self { terminal, step: String::new(), steps_done: 0, steps, began: Instant::now() }
    }

    /// Begins a step.
    pub fn step(&mut self, text: impl Into<String>) {
        self.finish_line();
        self.steps_done = (self.steps_done + 1).min(self.steps);
        self.step = text.into();
        let (done, steps) = (self.steps_done, self.steps);
        let seconds = self.began.elapsed().as_secs();
        let end = if self.terminal { "" } else { "\n" };
        self.print(&format!("[{done:>2}/{steps}] {seconds:>4} s  {}{end}", self.step));
    }

    /// Shows how the step goes; only on a terminal.
    pub fn detail(&self, text: &str) {
        if self.terminal {
            let (done, steps) = (self.steps_done, self.steps);
            let seconds = self.began.elapsed().as_secs();
            self.print(&format!("\r\x1b[K[{done:>2}/{steps}] {seconds:>4} s  {}: {text}", self.step));
        }
    }

    /// Prints a line that stays.
    pub fn remark(&mut self, text: &str) {
        self.finish_line();
        self.print(&format!("{text}\n"));
    }

    /// Ends the live line.
    pub fn finish_line(&self) {
        if self.terminal && self.steps_done > 0 {
            self.print("\r\x1b[K");
        }
    }

    fn print(&self, text: &str) {
        let mut stderr = std::io::stderr().lock();
        let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
    }
}
