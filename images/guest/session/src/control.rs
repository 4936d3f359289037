//! The channel to `init`.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use softoff_guest_protocol::control::{ADDRESS, ToInit, ToSession, decode, encode};

/// `init` listens before it starts Wine; this is for a slow host.
const CONNECT_LIMIT: Duration = Duration::from_secs(30);

/// The connection to `init`.
#[derive(Debug)]
pub(crate) struct Control {
    stream: Mutex<TcpStream>,
}

impl Control {
    /// Connects, and starts a thread that gives every message to `heard`, and `None` when `init` has hung up.
    pub(crate) fn connect(
        mut heard: impl FnMut(Option<ToSession>) + Send + 'static,
    ) -> Result<Control, String> {
        let stream = connect(ADDRESS)?;
        // A request is one small line, and the machine's end may hang on it.
        stream.set_nodelay(true).ok();
        let lines = stream.try_clone().map_err(|why| format!("{ADDRESS}: {why}"))?;
        std::thread::spawn(move || {
            for line in BufReader::new(lines).lines().map_while(Result::ok) {
                // A message that this session does not know comes from a newer init: nothing to do for it.
                if let Some(message) = decode(&line) {
                    heard(Some(message));
                }
            }
            heard(None);
        });
        Ok(Control { stream: Mutex::new(stream) })
    }

    /// Asks `init` for something.
    pub(crate) fn ask(&self, what: &ToInit) -> Result<(), String> {
        let mut stream = self.stream.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        stream.write_all(&encode(what)).map_err(|why| format!("asking init for {what:?}: {why}"))
    }
}

fn connect(address: &str) -> Result<TcpStream, String> {
    let started = Instant::now();
    loop {
        match TcpStream::connect(address) {
            Ok(stream) => return Ok(stream),
            Err(why) if started.elapsed() > CONNECT_LIMIT => {
                return Err(format!("no init on {address} for {CONNECT_LIMIT:?}: {why}"));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(100)),
        }
    }
}
