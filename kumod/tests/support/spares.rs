//! A spool that was just made, without the wait: it is made once, and every home gets a copy with holes where the zeros were.
//!
//! Of a fresh segment only the first block says anything.

use std::fs::{self, File};
use std::io::Read;

use super::home::Home;

const BLOCK_BYTES: usize = 4096;

/// The segments of a spool that was never used.
pub(crate) struct Spares {
    /// Name, first block, length in bytes.
    segments: Vec<(String, Vec<u8>, u64)>,
}

impl Spares {
    pub(crate) fn make() -> Self {
        let home = Home::new();
        home.start(&["--spool-backend", "threads"]).stop();
        let mut segments = Vec::new();
        for entry in fs::read_dir(home.segments()).unwrap().map(Result::unwrap) {
            let name = entry.file_name().into_string().unwrap();
            if name.ends_with(".segment") {
                let mut block = vec![0; BLOCK_BYTES];
                File::open(entry.path()).unwrap().read_exact(&mut block).unwrap();
                segments.push((name, block, entry.metadata().unwrap().len()));
            }
        }
        segments.sort();
        Self { segments }
    }

    pub(crate) fn count(&self) -> usize {
        self.segments.len()
    }

    /// The first so many, where there is none of the name, in a spool that is not open.
    pub(crate) fn put_into(&self, home: &Home, count: usize) {
        fs::create_dir_all(home.segments()).unwrap();
        for (name, block, bytes) in &self.segments[..count] {
            let path = home.segments().join(name);
            if path.exists() {
                continue;
            }
            fs::write(&path, block).unwrap();
            File::options().write(true).open(&path).unwrap().set_len(*bytes).unwrap();
        }
    }
}
