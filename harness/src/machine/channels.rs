//! The guest's two serial ports: COM1 with probe lines, COM2 with the console.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use softoff_guest_protocol::probe::{MAX_LINE, ProbeLine};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

use super::lines::{Line, next_line};
use crate::text::printable;
use crate::timeline::{Seen, Source, Timeline};

/// What is kept of the console in `serial.log`, bytes; the rest is read and dropped.
const CONSOLE_LIMIT: usize = 8 << 20;

/// Probe lines kept in one timeline, and their bytes together; a guest that floods COM1 fills no memory.
const PROBE_LIMIT: usize = 20_000;
const PROBE_BYTES: usize = 4 << 20;

/// What is kept of COM1.
#[derive(Debug, Default)]
struct Kept {
    lines: usize,
    bytes: usize,
    full: bool,
}

impl Kept {
    /// Takes a line of so many bytes into the timeline while there is room; the first that finds none is told, for
    /// what is dropped from there on may have been the guest's own.
    fn add(&mut self, timeline: &Timeline, bytes: usize, what: Seen) {
        if self.full {
            return;
        }
        (self.lines, self.bytes) = (self.lines + 1, self.bytes + bytes);
        self.full = self.lines > PROBE_LIMIT || self.bytes > PROBE_BYTES;
        let flood =
            || format!("COM1 is flooded: {PROBE_LIMIT} lines or {PROBE_BYTES} bytes are kept, no more");
        let what = if self.full { Seen::ProbeDamaged { why: flood() } } else { what };
        timeline.add(Source::Probe, what);
    }

    fn damaged(&mut self, timeline: &Timeline, why: String) {
        self.add(timeline, why.len(), Seen::ProbeDamaged { why });
    }
}

/// What begins a line on COM1 by which an unattended installation tells where it is. Setup's commands write it with
/// `echo`: no JSON could be written that way.
pub const INSTALL_MARKER: &str = "softoff-install:";

/// Connects to a socket that QEMU is about to open.
pub(crate) async fn connect(path: &Path, limit: Duration) -> anyhow::Result<UnixStream> {
    let attempt = async {
        loop {
            match UnixStream::connect(path).await {
                Ok(stream) => return stream,
                Err(_) => tokio::time::sleep(Duration::from_millis(2)).await,
            }
        }
    };
    tokio::time::timeout(limit, attempt)
        .await
        .with_context(|| format!("QEMU did not open {} within {limit:?}", path.display()))
}

/// The last number that each program of the guest (name, process id) has given a line of its own.
pub type LastNumbers = HashMap<(String, u32), u64>;

/// Reads COM1 into the timeline until QEMU closes it. Gaps in a program's numbering and lines that are no
/// probe lines are observations too: lost lines must show. `last_seq`: the numbers used before, by a guest whose
/// state was loaded.
pub(crate) async fn read_probe(stream: UnixStream, timeline: Timeline, mut last_seq: LastNumbers) {
    let mut reader = BufReader::new(stream);
    let mut kept = Kept::default();
    loop {
        let line = match next_line(&mut reader, MAX_LINE).await {
            Ok(Line::Whole(line)) => line,
            Ok(Line::TooLong { bytes }) => {
                kept.damaged(&timeline, format!("line of {bytes} bytes"));
                continue;
            }
            Ok(Line::End(_)) | Err(_) => return,
        };
        match ProbeLine::parse(&line) {
            Ok(parsed) => {
                let (bytes, line) = (line.len(), parsed);
                if last_seq.len() > 1000 {
                    last_seq.clear();
                }
                let last = last_seq.insert((line.src.clone(), line.pid), line.seq);
                if line.seq != last.unwrap_or(0) + 1 {
                    let why = format!(
                        "{} {} jumped from line {} to {}",
                        printable(&line.src, 40),
                        line.pid,
                        last.unwrap_or(0),
                        line.seq
                    );
                    kept.damaged(&timeline, why);
                }
                kept.add(&timeline, bytes, Seen::Probe(line));
            }
            Err(e) if !line.trim_ascii().is_empty() => {
                let text = printable(&String::from_utf8_lossy(line.trim_ascii()), 120);
                if let Some(place) = text.strip_prefix(INSTALL_MARKER) {
                    kept.add(&timeline, line.len(), Seen::InstallMarker { place: place.trim().to_owned() });
                    continue;
                }
                kept.damaged(&timeline, format!("{e}: {text}"));
            }
            Err(_) => {}
        }
    }
}

/// Copies COM2 into `serial.log` until QEMU closes it, and tells of a kernel panic.
pub(crate) async fn read_console(
    mut stream: UnixStream,
    log: PathBuf,
    timeline: Timeline,
) -> anyhow::Result<()> {
    let mut file =
        tokio::fs::File::create(&log).await.with_context(|| format!("cannot write {}", log.display()))?;
    let mut written = 0;
    let mut line = Vec::new();
    let mut buffer = vec![0u8; 4096];
    loop {
        let chunk = match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(n) => buffer.get(..n).unwrap_or_default(),
        };
        if written < CONSOLE_LIMIT {
            written += chunk.len();
            file.write_all(chunk).await.with_context(|| format!("cannot write {}", log.display()))?;
        }
        for byte in chunk {
            if *byte != b'\n' {
                if line.len() < 1000 {
                    line.push(*byte);
                }
                continue;
            }
            let text = String::from_utf8_lossy(&line);
            // The kernel's own words (kernel/panic.c).
            if text.contains("Kernel panic - not syncing") {
                timeline.add(Source::Console, Seen::ConsolePanic { line: printable(&text, 200) });
            }
            line.clear();
        }
    }
    file.flush().await.context("cannot write serial.log")
}

#[cfg(test)]
mod tests {
    use super::*;
    use softoff_guest_protocol::probe::{ProbeEvent, VERSION};

    fn wire(seq: u64) -> Vec<u8> {
        ProbeLine { softoff: VERSION, src: "init".into(), pid: 1, seq, up_ms: 0, event: ProbeEvent::Booted }
            .encode()
    }

    #[tokio::test]
    async fn lost_and_broken_lines_show() {
        let (mut guest, host) = UnixStream::pair().unwrap();
        let timeline = Timeline::start();
        guest.write_all(&wire(1)).await.unwrap();
        guest.write_all(&wire(3)).await.unwrap();
        guest.write_all(b"{\"softoff\":1,\"src\n\x1b[2J\n\r\n").await.unwrap();
        guest.write_all(&vec![b'x'; MAX_LINE + 5]).await.unwrap();
        guest.write_all(b"\n").await.unwrap();
        guest.write_all(b"softoff-install: windows-pe \r\n").await.unwrap();
        guest.write_all(&wire(4)).await.unwrap();
        drop(guest);
        read_probe(host, timeline.clone(), LastNumbers::new()).await;
        let kinds: Vec<String> = timeline
            .snapshot()
            .iter()
            .map(|o| match &o.what {
                Seen::Probe(line) => format!("line {}", line.seq),
                Seen::ProbeDamaged { why } => why.clone(),
                other => other.brief(),
            })
            .collect();
        insta::assert_debug_snapshot!(kinds);
    }

    #[tokio::test]
    async fn a_flood_is_cut_and_told() {
        for (lines, length) in [(PROBE_LIMIT + 2000, 1), (PROBE_BYTES / 2000, 3000)] {
            let (mut guest, host) = UnixStream::pair().unwrap();
            let timeline = Timeline::start();
            let reads = tokio::spawn(read_probe(host, timeline.clone(), LastNumbers::new()));
            for seq in 1..=lines as u64 {
                let event = ProbeEvent::DialogShown { title: "x".repeat(length) };
                let line = ProbeLine { softoff: VERSION, src: "flood".into(), pid: 1, seq, up_ms: 0, event };
                guest.write_all(&line.encode()).await.unwrap();
            }
            drop(guest);
            reads.await.unwrap();
            let seen = timeline.snapshot();
            assert!(seen.len() <= PROBE_LIMIT + 1 && seen.len() < lines, "{}", seen.len());
            assert!(
                matches!(&seen.last().unwrap().what, Seen::ProbeDamaged { why } if why.contains("flooded"))
            );
        }
    }

    #[tokio::test]
    async fn a_panic_on_the_console_is_seen_and_logged() {
        let (mut guest, host) = UnixStream::pair().unwrap();
        let timeline = Timeline::start();
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("serial.log");
        guest.write_all(b"[    0.1] fine\r\n[    0.2] Kernel panic - not ").await.unwrap();
        guest.write_all(b"syncing: Attempted to kill init!\r\n").await.unwrap();
        drop(guest);
        read_console(host, log.clone(), timeline.clone()).await.unwrap();
        assert!(
            matches!(&timeline.snapshot()[0].what, Seen::ConsolePanic { line } if line.contains("Attempted"))
        );
        assert!(std::fs::read_to_string(log).unwrap().contains("fine"));
    }
}
