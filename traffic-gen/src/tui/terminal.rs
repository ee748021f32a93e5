//! The terminal: taken for the picture, and given back on every way out.
//!
//! Drawn on standard error, so that standard output stays free for the summary. It is given back when the
//! screen is dropped and when any thread panics, before the panic is printed; after that nothing is drawn
//! any more. A process that is killed with no chance to do anything leaves it as it is (`reset` helps).

use std::fs;
use std::io::{self, IsTerminal, Stderr, stderr};
use std::panic;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::{Hide, Show};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode, size,
};

use super::picture::Picture;
use super::view::{self, COLUMNS_MIN, ROWS_MIN};

/// Whether the terminal is ours now.
static TAKEN: AtomicBool = AtomicBool::new(false);

static HOOK: Once = Once::new();

/// Why there can be no picture on standard error; `None` where there can.
pub(crate) fn obstacle() -> Option<String> {
    if !stderr().is_terminal() {
        return Some("standard error is no terminal".to_owned());
    }
    if std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb") {
        return Some("TERM says that the terminal cannot be drawn on".to_owned());
    }
    if !is_in_foreground() {
        return Some("the command runs in the background".to_owned());
    }
    match size() {
        Ok((columns, rows)) if columns < COLUMNS_MIN || rows < ROWS_MIN => {
            Some(format!("the terminal has {columns}x{rows} characters, not {COLUMNS_MIN}x{ROWS_MIN}"))
        }
        Ok(_) => None,
        Err(error) => Some(format!("the size of the terminal is not known: {error}")),
    }
}

/// Whether the terminal would let us change it; a job in the background is stopped when it tries.
fn is_in_foreground() -> bool {
    // Behind the name in brackets stand state, parent, group, session, terminal, group in the foreground.
    let status = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = status.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    match (fields.get(2), fields.get(5)) {
        (Some(group), Some(foreground)) => group == foreground,
        _ => true,
    }
}

/// The terminal while it is ours.
pub(crate) struct Screen {
    terminal: Terminal<CrosstermBackend<Stderr>>,
}

impl Screen {
    /// Takes the terminal.
    pub(crate) fn take() -> io::Result<Self> {
        HOOK.call_once(|| {
            let before = panic::take_hook();
            panic::set_hook(Box::new(move |what| {
                give_back();
                before(what);
            }));
        });
        enable_raw_mode()?;
        TAKEN.store(true, Ordering::SeqCst);
        let screen = execute!(stderr(), EnterAlternateScreen, Hide)
            .and_then(|()| Terminal::new(CrosstermBackend::new(stderr())));
        screen.map(|terminal| Self { terminal }).inspect_err(|_| give_back())
    }

    /// Draws, unless the terminal was given back behind our back.
    pub(crate) fn draw(&mut self, picture: &Picture) -> io::Result<()> {
        if TAKEN.load(Ordering::SeqCst) {
            self.terminal.draw(|frame| view::draw(frame, picture))?;
        }
        Ok(())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

/// Makes the terminal what it was, once.
fn give_back() {
    if TAKEN.swap(false, Ordering::SeqCst) {
        // There is nobody left to tell, and the rest of the run is worth more.
        let _ = execute!(stderr(), LeaveAlternateScreen, Show);
        let _ = disable_raw_mode();
    }
}
