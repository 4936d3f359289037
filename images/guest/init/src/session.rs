//! The control channel: the session program connects, is told of requests, and asks for endings.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::Sender;
use std::time::Duration;

use anyhow::Context;
use softoff_guest_protocol::control::{self, ADDRESS, ToSession};

use crate::log;
use crate::serve::Event;

/// Longest line accepted; a message is a few dozen bytes.
const MAX_LINE: u64 = 4096;

/// Listens in a thread; each connection is read in another.
pub(crate) fn listen(events: Sender<Event>) -> anyhow::Result<()> {
    let listener = TcpListener::bind(ADDRESS).with_context(|| format!("cannot listen on {ADDRESS}"))?;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let _ = stream.set_nodelay(true);
            let Ok(writer) = stream.try_clone() else { continue };
            if events.send(Event::SessionConnected(writer)).is_err() {
                return;
            }
            let events = events.clone();
            std::thread::spawn(move || read(stream, &events));
        }
    });
    Ok(())
}

fn read(stream: TcpStream, events: &Sender<Event>) {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    loop {
        line.clear();
        match reader.by_ref().take(MAX_LINE).read_line(&mut line) {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
        match control::decode(&line) {
            Some(ask) => {
                if events.send(Event::Session(ask)).is_err() {
                    return;
                }
            }
            None => log::trouble(&format!("the session sent a line that is no request: {:?}", line.trim())),
        }
    }
    let _ = events.send(Event::SessionGone);
}

/// Tells the session; true when it was written.
pub(crate) fn tell(stream: &mut TcpStream, message: &ToSession) -> bool {
    let _ = stream.set_write_timeout(Some(Duration::from_secs(1)));
    stream.write_all(&control::encode(message)).is_ok()
}
