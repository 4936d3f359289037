//! QMP's socket, as two halves that wake nobody in vain.
//!
//! A `UnixStream` of tokio is registered for reading and writing at once, so that every command woke the reader
//! a second time, when QEMU had taken it off the socket's buffer (seen with strace: two `epoll_wait` a round
//! trip). Here reading is awaited alone, and writing only where the buffer is full.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, Interest, ReadBuf};

/// Connects, and gives the half to read and the half to write.
pub(super) fn connect(path: &Path) -> io::Result<(Reader, Writer)> {
    // A local socket's connect does not wait for its peer, unless 10 others wait before it (QEMU's backlog is 1
    // client, and it accepts at once).
    let stream = UnixStream::connect(path)?;
    stream.set_nonblocking(true)?;
    let writer = Writer { stream: stream.try_clone()? };
    Ok((Reader { stream: awaited(stream, Interest::READABLE)? }, writer))
}

/// A stream that is awaited for one thing only.
fn awaited(stream: UnixStream, interest: Interest) -> io::Result<AsyncFd<UnixStream>> {
    // SAFETY: a UnixStream owns its descriptor, names the same one as long as it lives, and is not taken out of
    // the AsyncFd.
    unsafe { AsyncFd::register_with_interest(stream, interest) }.map_err(io::Error::from)
}

/// What QEMU says.
#[derive(Debug)]
pub(super) struct Reader {
    stream: AsyncFd<UnixStream>,
}

impl AsyncRead for Reader {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut guard = ready!(self.stream.poll_read_ready(cx))?;
            let space = buffer.initialize_unfilled();
            let length = space.len();
            match self.stream.get_ref().read(space) {
                Ok(n) => {
                    // Less than there was room for: the socket is drained, and asking again would only say so.
                    if n < length && n > 0 {
                        guard.clear_ready();
                    }
                    buffer.advance(n);
                    return Poll::Ready(Ok(()));
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => guard.clear_ready(),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Poll::Ready(Err(e)),
            }
        }
    }
}

/// What is said to QEMU.
#[derive(Debug)]
pub(super) struct Writer {
    stream: UnixStream,
}

impl Drop for Writer {
    /// Whoever could ask has gone: QEMU hears it, and serves the next client. The reader ends by it too.
    fn drop(&mut self) {
        let _closed = self.stream.shutdown(std::net::Shutdown::Both);
    }
}

impl Writer {
    /// Writes everything.
    pub(super) async fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match (&self.stream).write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => bytes = bytes.get(n..).unwrap_or_default(),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    let full = awaited(self.stream.try_clone()?, Interest::WRITABLE)?;
                    let _room = full.writable().await?;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}
