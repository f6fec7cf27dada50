//! Waking a worker's loop from another thread.
//!
//! A pair of connected sockets: the loop has a read running on one, ringing writes a byte to the
//! other. Rings between two looks are one ring.

use monoio::io::AsyncReadRent;
use monoio::net::UnixStream;
use std::io::{self, Write};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The button: any thread may press it.
#[derive(Clone, Debug)]
pub struct Bell(Arc<Wire>);

#[derive(Debug)]
struct Wire {
    rung: AtomicBool,
    button: StdUnixStream,
}

/// The loop's end, until it is on its loop.
#[derive(Debug)]
pub struct Doorbell {
    bell: Bell,
    stream: StdUnixStream,
}

/// The loop's end on its loop.
pub struct Listening {
    bell: Bell,
    stream: UnixStream,
    buffer: Vec<u8>,
}

/// A bell and the end that hears it.
///
/// # Errors
/// No descriptors are left.
pub fn doorbell() -> io::Result<(Bell, Doorbell)> {
    let (button, stream) = StdUnixStream::pair()?;
    button.set_nonblocking(true)?;
    stream.set_nonblocking(true)?;
    let bell = Bell(Arc::new(Wire { rung: AtomicBool::new(false), button }));
    Ok((bell.clone(), Doorbell { bell, stream }))
}

impl Bell {
    /// Wakes the loop. What was written before this is seen there after [`Listening::heard`].
    pub fn ring(&self) {
        if !self.0.rung.swap(true, Ordering::AcqRel) {
            // A full socket rings already; a closed one has nobody to wake.
            let _ = (&self.0.button).write(&[1]);
        }
    }
}

impl Doorbell {
    /// Goes to the loop of this thread.
    ///
    /// # Errors
    /// The loop can't take it.
    pub fn listen(self) -> io::Result<Listening> {
        let stream = UnixStream::from_std(self.stream)?;
        Ok(Listening { bell: self.bell, stream, buffer: vec![0; 16] })
    }
}

impl Listening {
    /// Waits for a ring.
    ///
    /// # Errors
    /// As the kernel says; the bell is broken then.
    pub async fn heard(&mut self) -> io::Result<()> {
        let (result, buffer) = self.stream.read(std::mem::take(&mut self.buffer)).await;
        self.buffer = buffer;
        // Rings from now on are new ones: what they announce may come after our look.
        self.bell.0.rung.store(false, Ordering::Release);
        match result? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

impl std::fmt::Debug for Listening {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Listening")
    }
}
