//! A QMP round trip: ours against a bare socket and against PyPI's qemu.qmp, each on a socket of its own of the
//! same idle QEMU, in turns.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::json;
use softoff_harness::machine::folder::RunFolder;
use softoff_harness::machine::qmp::QmpClient;
use softoff_harness::machine::{QEMU, process};
use tokio::process::Command;

use super::python;
use super::row::{Row, Samples, Unit, figure};

const NAME: &str = "qmp-rtt";
const WHAT: &str = "one query-status: ours / a blocking loop on a bare socket";
const LIMIT: Duration = Duration::from_secs(30);

/// Round trips a turn, and turns.
const TRIPS: usize = 400;
const TURNS: usize = 12;

const QUERY: &[u8] = b"{\"execute\":\"query-status\"}\n";

pub(super) async fn measure() -> anyhow::Result<Row> {
    let dir = RunFolder::create()?;
    let socket = |name: &str| dir.path().join(name);
    let mut command = Command::new(QEMU);
    command.args(["-nodefaults", "-no-user-config", "-display", "none", "-S", "-machine", "none"]);
    let names = ["bare", "ours", "python"];
    for name in names {
        command.arg("-qmp").arg(format!("unix:{},server=on,wait=off", socket(name).display()));
    }
    let mut qemu = process::spawn(command).await.context("starting QEMU")?;
    // The last one to be opened.
    let began = Instant::now();
    let (client, _events) = loop {
        match QmpClient::connect(&socket("python"), LIMIT).await {
            Ok((probe, _)) => {
                drop(probe);
                break QmpClient::connect(&socket("ours"), LIMIT).await?;
            }
            Err(_) if began.elapsed() < LIMIT => tokio::time::sleep(Duration::from_millis(10)).await,
            Err(e) => return Err(e.into()),
        }
    };
    let mut bare = Bare::connect(&socket("bare"))?;
    let (mut ours, mut theirs) = (Samples::default(), Samples::default());
    for _ in 0..TURNS {
        let (back, times) = tokio::task::spawn_blocking(move || bare.turn()).await??;
        bare = back;
        theirs.extend(times);
        for _ in 0..TRIPS {
            let began = Instant::now();
            client.execute_raw("query-status", json!({}), LIMIT).await?;
            ours.push(began.elapsed());
        }
    }
    let peer = python_peer(&socket("python")).await;
    qemu.start_kill()?;
    qemu.wait().await?;

    let row = Row::timed(NAME, WHAT, &ours, &theirs);
    let (Some(ratio), Some(median)) = (row.ratio, ours.median()) else { return Ok(row) };
    let below = |peer: Duration| median < peer;
    let goal = "at most 1.3 times the bare socket, below qemu.qmp";
    Ok(match peer {
        Ok(peer) => {
            let note = format!("qemu.qmp: {}", figure(peer.as_secs_f64(), Unit::Seconds));
            row.goal(goal, ratio <= 1.3 && below(peer)).note(note)
        }
        Err(why) => row
            .goal("at most 1.3 times the bare socket", ratio <= 1.3)
            .note(format!("qemu.qmp unavailable: {why:#}")),
    })
}

/// The least a client can do: write a line, read lines until one is the reply.
struct Bare {
    stream: UnixStream,
    reader: BufReader<UnixStream>,
}

impl Bare {
    fn connect(path: &Path) -> anyhow::Result<Bare> {
        let stream = UnixStream::connect(path)?;
        let mut bare = Bare { reader: BufReader::new(stream.try_clone()?), stream };
        let mut greeting = String::new();
        bare.reader.read_line(&mut greeting)?;
        bare.ask(b"{\"execute\":\"qmp_capabilities\"}\n")?;
        Ok(bare)
    }

    fn ask(&mut self, line: &[u8]) -> anyhow::Result<()> {
        self.stream.write_all(line)?;
        let mut reply = String::new();
        loop {
            reply.clear();
            anyhow::ensure!(self.reader.read_line(&mut reply)? > 0, "QEMU closed the socket");
            if reply.starts_with("{\"return\"") {
                return Ok(());
            }
        }
    }

    fn turn(mut self) -> anyhow::Result<(Bare, Samples)> {
        let mut times = Samples::default();
        for _ in 0..TRIPS {
            let began = Instant::now();
            self.ask(QUERY)?;
            times.push(began.elapsed());
        }
        Ok((self, times))
    }
}

const SCRIPT: &str = r#"
import asyncio, sys, time
from qemu.qmp import QMPClient
async def main():
    client = QMPClient("bench")
    await client.connect(sys.argv[1])
    times = []
    for _ in range(int(sys.argv[2])):
        began = time.perf_counter()
        await client.execute("query-status")
        times.append(time.perf_counter() - began)
    await client.disconnect()
    times.sort()
    print(times[len(times) // 2])
asyncio.run(main())
"#;

/// The median of qemu.qmp, from PyPI.
async fn python_peer(socket: &Path) -> anyhow::Result<Duration> {
    let python = python::with("qemu.qmp").await?;
    let trips = (TRIPS * TURNS).to_string();
    let mut script = Command::new(python);
    script.args(["-c", SCRIPT]).arg(socket).arg(trips).kill_on_drop(true);
    let output = tokio::time::timeout(LIMIT, script.output())
        .await
        .with_context(|| format!("its script did not end within {LIMIT:?}"))??;
    let said = String::from_utf8_lossy(&output.stdout);
    let seconds: f64 = said.trim().parse().with_context(|| {
        format!(
            "its script said {}",
            String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or_default()
        )
    })?;
    Ok(Duration::try_from_secs_f64(seconds)?)
}
