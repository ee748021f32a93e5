//! A disk in memory that behaves as badly as real ones may: writes tear at sectors, land in any order, fail, fall short;
//! the power can go at any operation, and what was not synced is then kept or lost sector by sector.
//! Deterministic: one seed, one behaviour. What is synced is kept; everything else is a gamble.
#![allow(clippy::unwrap_used, reason = "only tests use it, and a test stops at the first error")]
#![allow(clippy::cast_possible_truncation, reason = "the disks of tests are small")]

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard};

use super::{Disk, Done, Entry, File, Lane, PREPARING_SUFFIX, Space, Write};

/// Bodies of tests are small.
const GATHER_BYTES_MIN: usize = 300;
/// What a disk writes without tearing, in bytes.
const SECTOR_BYTES: usize = 512;

/// What goes wrong, and when.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    /// The power goes during this operation, counted from 1.
    pub(crate) cut_at: Option<u64>,
    /// One write in so many fails, after part of it reached the disk.
    pub(crate) fail_one_in: Option<u64>,
    /// These operations fail, after part of them reached the disk.
    pub(crate) fail_at: [Option<u64>; 2],
    /// They fail as a full disk does, and not as a broken one.
    pub(crate) fail_is_full: bool,
    /// One write in so many stops early.
    pub(crate) short_one_in: Option<u64>,
    /// Negative control: barriers do nothing.
    pub(crate) sync_ignored: bool,
    /// Submitted batches stay on their way until somebody blocks for them.
    pub(crate) hold: bool,
    /// No file can be made.
    pub(crate) no_space: bool,
}

#[derive(Clone)]
struct Inode {
    /// What a reader sees.
    cache: Vec<u8>,
    /// What is on stable storage.
    durable: Vec<u8>,
    /// Written and not synced.
    unsynced: Vec<(usize, Vec<u8>)>,
}

struct State {
    inodes: BTreeMap<u64, Inode>,
    names: BTreeMap<String, u64>,
    /// The directory as it is on stable storage.
    durable_names: BTreeMap<String, u64>,
    aside: BTreeMap<String, Vec<u8>>,
    /// Submitted to a lane and not finished.
    in_flight: BTreeMap<u64, (u64, usize, Vec<u8>)>,
    next: u64,
    operations: u64,
    off: bool,
    faults: Faults,
    random: u64,
    space: Space,
}

impl State {
    fn random(&mut self, below: u64) -> u64 {
        // xorshift64*: small, seeded, good enough to choose sectors.
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        (self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % below.max(1)
    }

    fn one_in(&mut self, chance: Option<u64>) -> bool {
        chance.is_some_and(|chance| self.random(chance) == 0)
    }

    /// Counts an operation; true when the power goes with it.
    fn step(&mut self) -> io::Result<bool> {
        if self.off {
            return Err(power_is_off());
        }
        self.operations += 1;
        self.off = self.faults.cut_at.is_some_and(|at| self.operations >= at);
        Ok(self.off)
    }

    /// Whether the operation just counted is one that fails.
    fn fails(&self) -> io::Result<()> {
        match self.faults.fail_at.contains(&Some(self.operations)) {
            true if self.faults.fail_is_full => Err(io::ErrorKind::StorageFull.into()),
            true => Err(io::Error::other("injected error")),
            false => Ok(()),
        }
    }

    /// Of what the directory was not synced about, any part may have reached the disk.
    fn settle_names(&mut self) {
        let mut names = std::mem::take(&mut self.durable_names);
        let cached = std::mem::take(&mut self.names);
        for name in names.keys().chain(cached.keys()).cloned().collect::<std::collections::BTreeSet<_>>() {
            let changed = names.get(&name) != cached.get(&name);
            match cached.get(&name) {
                Some(inode) if changed && self.random(2) == 0 => drop(names.insert(name, *inode)),
                None if changed && self.random(2) == 0 => drop(names.remove(&name)),
                _ => {}
            }
        }
        self.names.clone_from(&names);
        self.durable_names = names;
    }

    fn pauses(&mut self) -> bool {
        self.faults.hold || self.random(2) == 0
    }

    /// A file whose contents are durable and whose name is not.
    fn add(&mut self, name: String, contents: Vec<u8>) -> u64 {
        self.next += 1;
        let inode = Inode { cache: contents.clone(), durable: contents, unsynced: Vec::new() };
        self.inodes.insert(self.next, inode);
        self.names.insert(name, self.next);
        self.next
    }

    /// Some sectors of a write, as a torn write leaves them.
    fn tear(&mut self, inode: u64, offset: usize, bytes: &[u8]) {
        for (number, sector) in bytes.chunks(SECTOR_BYTES).enumerate() {
            if self.random(2) == 0 {
                let at = offset + number * SECTOR_BYTES;
                let inode = self.inodes.get_mut(&inode).unwrap();
                put(&mut inode.durable, at, sector);
                put(&mut inode.cache, at, sector);
            }
        }
    }
}

fn put(target: &mut [u8], at: usize, bytes: &[u8]) {
    target[at..at + bytes.len()].copy_from_slice(bytes);
}

fn power_is_off() -> io::Error {
    io::Error::other("the power is off")
}

#[derive(Clone)]
pub(crate) struct MemoryDisk(Arc<Mutex<State>>);

impl MemoryDisk {
    pub(crate) fn new(seed: u64, faults: Faults) -> Self {
        let space = Space { free_bytes: 1 << 40, free_inodes: 1 << 20 };
        let state = State {
            inodes: BTreeMap::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            aside: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            next: 0,
            operations: 0,
            off: false,
            faults,
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            space,
        };
        Self(Arc::new(Mutex::new(state)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    pub(crate) fn operations(&self) -> u64 {
        self.state().operations
    }

    pub(crate) fn faults(&self) -> Faults {
        self.state().faults
    }

    pub(crate) fn is_off(&self) -> bool {
        self.state().off
    }

    pub(crate) fn set_faults(&self, faults: Faults) {
        self.state().faults = faults;
    }

    pub(crate) fn set_space(&self, space: Space) {
        self.state().space = space;
    }

    /// Copies of damaged regions, by name.
    pub(crate) fn aside(&self) -> BTreeMap<String, Vec<u8>> {
        self.state().aside.clone()
    }

    /// Contents of a file on stable storage.
    pub(crate) fn contents(&self, name: &str) -> Option<Vec<u8>> {
        let state = self.state();
        state.names.get(name).map(|inode| state.inodes[inode].durable.clone())
    }

    /// Changes a file behind everybody's back.
    pub(crate) fn edit(&self, name: &str, edit: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.state();
        let inode = state.names[name];
        let inode = state.inodes.get_mut(&inode).unwrap();
        edit(&mut inode.durable);
        inode.cache.clone_from(&inode.durable);
    }

    pub(crate) fn put_file(&self, name: &str, bytes: Vec<u8>) {
        let mut state = self.state();
        let inode = state.add(name.to_owned(), bytes);
        state.durable_names.insert(name.to_owned(), inode);
    }

    /// The process that had submitted them is gone: what was on its way lands, as far as it does, before another process can
    /// have the lock.
    pub(crate) fn let_land(&self) {
        let mut state = self.state();
        for (_, (inode, offset, bytes)) in std::mem::take(&mut state.in_flight) {
            state.tear(inode, offset, &bytes);
        }
    }

    /// The disk as it is found after the power comes back: of what was not synced, any sectors may have survived.
    pub(crate) fn after_power_cut(&self, faults: Faults) -> Self {
        let mut state = self.state();
        let numbers: Vec<u64> = state.inodes.keys().copied().collect();
        for number in numbers {
            let inode = state.inodes.get_mut(&number).unwrap();
            inode.cache.clone_from(&inode.durable);
            for (offset, bytes) in std::mem::take(&mut inode.unsynced) {
                state.tear(number, offset, &bytes);
            }
        }
        for (_, (inode, offset, bytes)) in std::mem::take(&mut state.in_flight) {
            if state.inodes.contains_key(&inode) {
                state.tear(inode, offset, &bytes);
            }
        }
        state.settle_names();
        let next = Self::new(state.random, faults);
        {
            let mut after = next.state();
            after.inodes.clone_from(&state.inodes);
            after.names.clone_from(&state.names);
            after.durable_names.clone_from(&state.durable_names);
            after.aside.clone_from(&state.aside);
            after.next = state.next;
            after.space = state.space;
        }
        next
    }

    fn handle(&self, inode: u64) -> Arc<dyn File> {
        Arc::new(MemoryFile { disk: self.clone(), inode })
    }
}

impl Disk for MemoryDisk {
    fn list(&self) -> io::Result<Vec<Entry>> {
        let state = self.state();
        let entry = |(name, inode): (&String, &u64)| Entry {
            name: name.clone(),
            bytes: state.inodes[inode].cache.len() as u64,
            is_file: true,
        };
        Ok(state.names.iter().map(entry).collect())
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let mut state = self.state();
        if state.step()? {
            return Err(power_is_off());
        }
        state.fails()?;
        let inode = state.names.get(name).copied().ok_or(io::ErrorKind::NotFound)?;
        drop(state);
        Ok(self.handle(inode))
    }

    fn create(&self, name: &str, bytes: u64, head: &[u8]) -> io::Result<Arc<dyn File>> {
        let mut state = self.state();
        if state.faults.no_space {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let mut contents = vec![0; bytes as usize];
        put(&mut contents, 0, head);
        // First the contents under another name, then the name: the power may go, or an error come, between the two.
        let cut = state.step()?;
        let failed = state.fails();
        if cut || failed.is_err() {
            contents.truncate(contents.len() / 2);
            state.add(format!("{name}{PREPARING_SUFFIX}"), contents);
            return Err(failed.err().unwrap_or_else(power_is_off));
        }
        let cut = state.step()?;
        state.fails()?;
        let number = state.add(name.to_owned(), contents);
        drop(state);
        if cut { Err(power_is_off()) } else { Ok(self.handle(number)) }
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        let cut = state.step()?;
        state.fails()?;
        state.names.remove(name);
        if cut { Err(power_is_off()) } else { Ok(()) }
    }

    fn sync_names(&self) -> io::Result<()> {
        let mut state = self.state();
        if state.step()? {
            return Err(power_is_off());
        }
        state.fails()?;
        let names = state.names.clone();
        state.durable_names = names;
        Ok(())
    }

    fn write_anew(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let mut state = self.state();
        let cut = state.step()?;
        state.fails()?;
        let inode = state.names.get(name).copied().ok_or(io::ErrorKind::NotFound)?;
        if !cut || state.random(2) == 0 {
            let contents = state.inodes[&inode].cache.clone();
            let number = state.add(name.to_owned(), contents);
            state.durable_names.insert(name.to_owned(), number);
        }
        drop(state);
        if cut { Err(power_is_off()) } else { self.open(name) }
    }

    fn set_file_aside(&self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        let inode = state.names.remove(name).ok_or(io::ErrorKind::NotFound)?;
        state.durable_names.remove(name);
        let contents = state.inodes[&inode].durable.clone();
        state.aside.insert(name.to_owned(), contents);
        Ok(())
    }

    fn set_bytes_aside(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.state().aside.entry(name.to_owned()).or_insert_with(|| bytes.to_vec());
        Ok(())
    }

    fn space(&self) -> io::Result<Space> {
        Ok(self.state().space)
    }
}

struct MemoryFile {
    disk: MemoryDisk,
    inode: u64,
}

impl MemoryFile {
    fn write(&self, state: &mut State, bytes: &[u8], offset: usize, sync: bool) -> io::Result<usize> {
        let (cut, faults) = (state.step()?, state.faults);
        let chosen = state.fails();
        if cut || chosen.is_err() || state.one_in(faults.fail_one_in) {
            state.tear(self.inode, offset, bytes);
            let injected = chosen.err().unwrap_or_else(|| io::Error::other("injected write error"));
            return Err(if cut { power_is_off() } else { injected });
        }
        let length = if state.one_in(faults.short_one_in) { bytes.len() / 2 } else { bytes.len() };
        let inode = state.inodes.get_mut(&self.inode).unwrap();
        put(&mut inode.cache, offset, &bytes[..length]);
        if sync && !faults.sync_ignored {
            put(&mut inode.durable, offset, &bytes[..length]);
        } else {
            inode.unsynced.push((offset, bytes[..length].to_vec()));
        }
        Ok(length)
    }
}

impl File for MemoryFile {
    fn bytes(&self) -> io::Result<u64> {
        let state = self.disk.state();
        Ok(state.inodes.get(&self.inode).map_or(0, |inode| inode.cache.len() as u64))
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = self.disk.state();
        let cache = state.inodes.get(&self.inode).map_or(&[][..], |inode| &inode.cache);
        let from = (offset as usize).min(cache.len());
        let length = buffer.len().min(cache.len() - from);
        buffer[..length].copy_from_slice(&cache[from..from + length]);
        Ok(length)
    }

    fn write_at(&self, bytes: &[u8], offset: u64, sync: bool) -> io::Result<usize> {
        self.write(&mut self.disk.state(), bytes, offset as usize, sync)
    }

    fn write_slices_at(&self, slices: &[IoSlice<'_>], offset: u64, sync: bool) -> io::Result<usize> {
        let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
        self.write_at(&bytes, offset, sync)
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        if state.step()? {
            return Err(power_is_off());
        }
        if let Err(error) = state.fails() {
            // As kernels do it: the pages count as clean from now on, though they never reached the disk.
            if let Some(inode) = state.inodes.get_mut(&self.inode) {
                inode.unsynced.clear();
            }
            return Err(error);
        }
        if !state.faults.sync_ignored
            && let Some(inode) = state.inodes.get_mut(&self.inode)
        {
            inode.unsynced.clear();
            inode.durable.clone_from(&inode.cache);
        }
        Ok(())
    }

    fn descriptor(&self) -> Option<Arc<OwnedFd>> {
        None
    }

    fn arm(&self) -> io::Result<()> {
        Ok(())
    }

    fn retire(&self) {}

    fn identity(&self) -> Option<u64> {
        Some(self.inode)
    }
}

/// Finishes submitted writes one at a time, in any order.
pub(crate) struct MemoryLane {
    disk: MemoryDisk,
    waiting: Vec<Write>,
    gathers: bool,
}

impl MemoryLane {
    pub(crate) fn new(disk: &MemoryDisk, gathers: bool) -> Self {
        Self { disk: disk.clone(), waiting: Vec::new(), gathers }
    }
}

impl Lane for MemoryLane {
    fn submit(&mut self, write: Write) {
        // What the disk may already have begun to write when the power goes.
        if let Some(inode) = write.file.identity() {
            let bytes = write.load.slices(0).flatten().copied().collect();
            self.disk.state().in_flight.insert(write.token, (inode, write.offset as usize, bytes));
        }
        self.waiting.push(write);
    }

    fn gather_bytes_min(&self) -> Option<usize> {
        self.gathers.then_some(GATHER_BYTES_MIN)
    }

    fn collect(&mut self, block: bool, done: &mut Vec<Done>) {
        if self.waiting.is_empty() || (!block && self.disk.state().pauses()) {
            return;
        }
        let chosen = self.disk.state().random(self.waiting.len() as u64) as usize;
        let write = self.waiting.swap_remove(chosen);
        let result = super::write_load(&write);
        if !self.disk.is_off() {
            self.disk.state().in_flight.remove(&write.token);
        }
        done.push(Done { token: write.token, load: write.load, result });
    }
}
