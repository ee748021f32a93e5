//! The live picture of a run on a terminal.
//!
//! A thread of its own draws it and reads the keys, ten times a second at most and nicer than the load; the
//! run only lays down the numbers of each second. `q` and Ctrl-C end the run as a signal would: once to
//! wait for the replies, twice to give them up. Where the terminal fails in the middle, the picture goes and
//! the run goes on.

mod charts;
pub(crate) mod picture;
pub(crate) mod terminal;
mod view;

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use traffic_gen::Control;

use self::picture::{Facts, Picture};
use self::terminal::Screen;
use crate::outputs::sample::Sample;
use crate::serve::be_nice;

/// How often keys and numbers are looked for.
const LOOK: Duration = Duration::from_millis(100);

/// The picture; the terminal is given back when this is dropped.
pub(crate) struct Tui {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    picture: Mutex<Picture>,
    changed: AtomicBool,
    over: AtomicBool,
}

impl Shared {
    fn change(&self, work: impl FnOnce(&mut Picture)) {
        work(&mut self.picture.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.store(true, Ordering::Release);
    }
}

impl Tui {
    /// Takes the terminal. `control` is how keys end the run.
    pub(crate) fn start(facts: Facts, color: bool, control: Control) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            picture: Mutex::new(Picture::new(facts, color)),
            changed: AtomicBool::new(true),
            over: AtomicBool::new(false),
        });
        let screen = Screen::take()?;
        // Without a keyboard there would be no way to end it.
        event::poll(Duration::ZERO)?;
        let seen = Arc::clone(&shared);
        let thread = thread::Builder::new().name("picture".to_owned()).spawn(move || {
            be_nice();
            // What the terminal refuses now, it will refuse next time.
            let _ = work(screen, &seen, &control);
        })?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Shows one more second.
    pub(crate) fn show(&self, sample: &Sample) {
        self.shared.change(|picture| picture.add(sample));
    }

    /// Another run begins in the same picture.
    pub(crate) fn begin(&self, facts: Facts) {
        self.shared.change(|picture| {
            *picture = Picture { ending: picture.ending, ..Picture::new(facts, picture.color) };
        });
    }
}

impl Drop for Tui {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has already printed why.
            let _ = thread.join();
        }
    }
}

fn work(mut screen: Screen, shared: &Shared, control: &Control) -> io::Result<()> {
    while !shared.over.load(Ordering::Acquire) {
        if shared.changed.swap(false, Ordering::AcqRel) {
            let picture = shared.picture.lock().unwrap_or_else(PoisonError::into_inner).clone();
            screen.draw(&picture)?;
        }
        if event::poll(LOOK)? {
            let event = event::read()?;
            if asks_for_the_end(&event) {
                control.stop();
                shared.change(Picture::end);
            }
            if matches!(event, Event::Resize(..)) {
                shared.change(|_| ());
            }
        }
    }
    Ok(())
}

/// Whether that is `q` or Ctrl-C.
fn asks_for_the_end(event: &Event) -> bool {
    let Event::Key(key) = event else {
        return false;
    };
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    key.kind == KeyEventKind::Press
        && match key.code {
            KeyCode::Char('q' | 'Q') => !control,
            KeyCode::Char('c') => control,
            _ => false,
        }
}

#[cfg(test)]
mod tests {
    use ratatui::crossterm::event::KeyEvent;

    use super::*;

    #[test]
    fn q_and_control_c_end_the_run_and_nothing_else_does() {
        let key = |code, modifiers| Event::Key(KeyEvent::new(code, modifiers));
        assert!(asks_for_the_end(&key(KeyCode::Char('q'), KeyModifiers::NONE)));
        assert!(asks_for_the_end(&key(KeyCode::Char('c'), KeyModifiers::CONTROL)));
        assert!(!asks_for_the_end(&key(KeyCode::Char('c'), KeyModifiers::NONE)));
        assert!(!asks_for_the_end(&key(KeyCode::Char('q'), KeyModifiers::CONTROL)));
        assert!(!asks_for_the_end(&key(KeyCode::Esc, KeyModifiers::NONE)));
        assert!(!asks_for_the_end(&Event::Resize(80, 24)));
    }
}
