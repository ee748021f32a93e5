//! Batches written through the tokio-uring runtime: a contender of the write benchmark, built with feature `tokio-uring`.
//! Owns a thread with its own runtime. A barrier is an fdatasync behind the write, for this runtime cannot ask for one within
//! the write. What the kernel refuses is handed back as it came; a runtime that ended hands back everything.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};

use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::JoinSet;
use tokio_uring::Runtime;
use tokio_uring::buf::BoundedBuf;
use tokio_uring::fs::File;

use super::{Done, Lane, Load, Next, Progress, Waker, Write};
use crate::format::BLOCK_BYTES;

/// Entries of the runtime's submission queue: a write and a sync for every batch in flight, and room to spare.
const RING_ENTRIES: u32 = 64;
/// Segments whose files are kept: the active one, its successor, and some that finish.
const FILES_MAX: usize = 8;

/// The way to the runtime's thread, and back.
pub(crate) struct TokioUringLane {
    /// `None` once the thread has been told to end.
    writes: Option<Sender<Write>>,
    desk: Arc<Desk>,
    thread: Option<JoinHandle<()>>,
}

struct Desk {
    /// At most as many as batches may be in flight.
    done: Mutex<Vec<Done>>,
    waker: Arc<Waker>,
}

impl Desk {
    fn done(&self) -> MutexGuard<'_, Vec<Done>> {
        self.done.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn file(&self, done: Done) {
        self.done().push(done);
        self.waker.ring();
    }
}

impl TokioUringLane {
    /// Starts the thread and waits until its ring stands.
    pub(crate) fn new(waker: Arc<Waker>, in_flight_max: usize) -> io::Result<Self> {
        let desk = Arc::new(Desk { done: Mutex::default(), waker });
        let (writes, waiting) = channel(in_flight_max);
        let (tell, told) = sync_channel(1);
        let theirs = Arc::clone(&desk);
        let thread = Builder::new().name("spool-tokio".to_owned()).spawn(move || {
            let runtime = Runtime::new(tokio_uring::builder().entries(RING_ENTRIES));
            // The opening thread waits for this word.
            let _ = tell.send(
                runtime.as_ref().map(|_| ()).map_err(|error| io::Error::new(error.kind(), error.to_string())),
            );
            if let Ok(runtime) = runtime {
                runtime.block_on(serve(waiting, theirs));
            }
        })?;
        told.recv().map_err(|_| io::Error::other("the runtime ended at once"))??;
        Ok(Self { writes: Some(writes), desk, thread: Some(thread) })
    }
}

impl Lane for TokioUringLane {
    fn submit(&mut self, write: Write) {
        let refused = match &self.writes {
            Some(writes) => writes.blocking_send(write).err().map(|refused| refused.0),
            None => Some(write),
        };
        if let Some(Write { token, load, .. }) = refused {
            let error = io::Error::other("the runtime that writes has ended");
            self.desk.file(Done { token, load, result: Err(error) });
        }
    }

    fn gather_bytes_min(&self) -> Option<usize> {
        None
    }

    fn collect(&mut self, block: bool, done: &mut Vec<Done>) {
        done.append(&mut self.desk.done());
        if block && done.is_empty() {
            // The bell rings after a batch was filed, so a ring is never missed.
            self.desk.waker.wait();
            done.append(&mut self.desk.done());
        }
    }
}

impl Drop for TokioUringLane {
    fn drop(&mut self) {
        self.writes = None;
        if let Some(thread) = self.thread.take() {
            // A runtime that panicked has nothing left to hand over.
            let _ = thread.join();
        }
    }
}

/// A task for each write, until the lane is dropped and the last one has come back.
async fn serve(mut writes: Receiver<Write>, desk: Arc<Desk>) {
    let mut files = Files::default();
    let mut under_way = JoinSet::new();
    while let Some(write) = writes.recv().await {
        while under_way.try_join_next().is_some() {}
        let (file, desk) = (files.of(&write), Arc::clone(&desk));
        under_way.spawn_local(async move { desk.file(carry_out(file, write).await) });
    }
    while under_way.join_next().await.is_some() {}
}

async fn carry_out(file: io::Result<Rc<File>>, write: Write) -> Done {
    let Write { token, load, offset, sync, .. } = write;
    let file = match file {
        Ok(file) => file,
        Err(error) => return Done { token, load, result: Err(error) },
    };
    let (mut result, load) = write_through(&file, load, offset).await;
    if sync && result.is_ok() {
        result = file.sync_data().await;
    }
    Done { token, load, result }
}

/// Writes a load that lies in its buffer: short writes are continued, EINTR and EAGAIN repeated.
async fn write_through(file: &File, load: Load, offset: u64) -> (io::Result<()>, Load) {
    let Load { mut buffer, pieces, bytes } = load;
    let mut progress = Progress::new(bytes, BLOCK_BYTES, false);
    loop {
        let rest = buffer.slice(progress.written()..bytes);
        let (answer, rest) = file.write_at(rest, offset + progress.written() as u64).submit().await;
        buffer = rest.into_inner();
        if let Next::Over(result) = progress.wrote(answer) {
            return (result, Load { buffer, pieces, bytes });
        }
    }
}

/// Files as the runtime wants them, each with a descriptor of its own.
#[derive(Default)]
struct Files {
    /// Oldest first. Holding the spool's descriptor keeps its identity from being used again.
    known: Vec<(Arc<OwnedFd>, Rc<File>)>,
}

impl Files {
    fn of(&mut self, write: &Write) -> io::Result<Rc<File>> {
        let descriptor = write.file.descriptor().ok_or(io::ErrorKind::Unsupported)?;
        if let Some((_, file)) = self.known.iter().find(|(known, _)| Arc::ptr_eq(known, &descriptor)) {
            return Ok(Rc::clone(file));
        }
        if self.known.len() >= FILES_MAX {
            self.known.remove(0);
        }
        let file = Rc::new(File::from_std(fs::File::from(descriptor.try_clone()?)));
        self.known.push((descriptor, Rc::clone(&file)));
        Ok(file)
    }
}
