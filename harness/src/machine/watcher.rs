//! Watches the screen: takes a picture every moment and keeps those that differ.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use super::qmp::QmpClient;
use super::screen::Picture;
use crate::image::Sha256Hex;
use crate::timeline::{Seen, Source, Timeline};

/// Time between two looks. A screendump of 1280x800 costs QEMU some 5 ms under TCG.
const PERIOD: Duration = Duration::from_millis(500);

/// Pictures kept before the request, and again after it; a guest that plays a film fills no disk.
const PICTURE_LIMIT: usize = 200;

/// Share of the screen that a blinking text cursor changes: one tile of 299 on a 720x400 console (measured).
const CURSOR: f32 = 0.004;

/// The file in a machine's folder through which pictures come from QEMU.
pub(crate) const SCRATCH: &str = "screen.ppm";

#[derive(Debug)]
struct State {
    qmp: QmpClient,
    scratch: PathBuf,
    record_dir: PathBuf,
    timeline: Timeline,
    last: Option<Picture>,
    /// Kept pictures by content, so that a screen that comes back is told by the picture it had.
    files: HashMap<Sha256Hex, PathBuf>,
    /// Pictures of earlier boots in the same folder.
    first_picture: usize,
    /// How many pictures may be kept by now; `None` once it was told that no more are.
    limit: Option<usize>,
}

/// The watching task.
#[derive(Debug)]
pub(crate) struct ScreenWatcher {
    state: Arc<Mutex<State>>,
    task: Option<JoinHandle<()>>,
}

impl ScreenWatcher {
    /// A watcher that looks when it is told to; see [`ScreenWatcher::start`].
    pub(crate) fn new(qmp: QmpClient, folder: &Path, record_dir: &Path, timeline: Timeline) -> ScreenWatcher {
        let scratch = folder.join(SCRATCH);
        let first_picture =
            timeline.snapshot().iter().filter(|o| matches!(o.what, Seen::ScreenChanged { .. })).count();
        let state = State {
            qmp,
            scratch,
            record_dir: record_dir.to_owned(),
            timeline,
            last: None,
            files: HashMap::new(),
            first_picture,
            limit: Some(PICTURE_LIMIT),
        };
        ScreenWatcher { state: Arc::new(Mutex::new(state)), task: None }
    }

    /// Looks by itself from now on.
    pub(crate) fn start(&mut self) {
        let shared = self.state.clone();
        self.task = Some(tokio::spawn(async move {
            loop {
                shared.lock().await.look().await;
                tokio::time::sleep(PERIOD).await;
            }
        }));
    }

    /// What is on the screen now; `None` when QEMU gives no picture. Nothing is kept of it.
    pub(crate) async fn glance(&self) -> Option<Picture> {
        let state = self.state.lock().await;
        picture(&state.qmp, &state.scratch).await.ok()
    }

    pub(crate) async fn look(&self) {
        self.state.lock().await.look().await;
    }

    /// Looks, and tells whether the screen is dark and which picture shows it.
    pub(crate) async fn is_dark(&self) -> bool {
        let mut state = self.state.lock().await;
        state.look().await;
        state.last.as_ref().is_some_and(Picture::is_dark)
    }

    /// The request comes now: what follows it has pictures of its own, however many the boot took.
    pub(crate) async fn new_chapter(&self) {
        let mut state = self.state.lock().await;
        state.limit = Some(state.files.len() + PICTURE_LIMIT);
    }

    pub(crate) async fn stop(&self) {
        // Taking the lock first lets a look that is under way finish: no half-written picture.
        let _state = self.state.lock().await;
        self.abort();
    }

    fn abort(&self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl Drop for ScreenWatcher {
    fn drop(&mut self) {
        self.abort();
    }
}

/// Takes one picture, by way of the file `scratch`, which QEMU writes.
pub(crate) async fn picture(qmp: &QmpClient, scratch: &Path) -> anyhow::Result<Picture> {
    qmp.picture(scratch, Duration::from_secs(10)).await?;
    let bytes = tokio::fs::read(scratch).await?;
    Ok(Picture::from_screendump(&bytes)?)
}

impl State {
    async fn look(&mut self) {
        let at = self.timeline.clock().now();
        // A machine that is going away refuses; there is no picture then, and nothing to tell.
        let Ok(picture) = picture(&self.qmp, &self.scratch).await else { return };
        let changed = self.last.as_ref().map_or(1.0, |last| picture.changed_since(last));
        if changed == 0.0 {
            return;
        }
        let content = picture.hash();
        if let Some(file) = self.files.get(&content) {
            // A text cursor blinks between two pictures; that is no news. A whole screen that comes back is.
            if changed > CURSOR {
                let file = file.to_string_lossy().into_owned();
                self.timeline.add_at(at, Source::Screen, Seen::ScreenChanged { file, changed });
            }
            self.last = Some(picture);
            return;
        }
        let Some(limit) = self.limit else { return };
        if self.files.len() >= limit {
            self.limit = None;
            let what = format!("{limit} pictures are kept; the screen is watched no more");
            self.timeline.add(Source::Screen, Seen::Note { what });
            return;
        }
        let file = super::picture_name(self.first_picture + self.files.len() + 1);
        self.files.insert(content, file.clone());
        let path = self.record_dir.join(&file);
        let (picture, written) = match tokio::task::spawn_blocking(move || {
            let written = picture.write_png(&path);
            (picture, written)
        })
        .await
        {
            Ok(done) => done,
            Err(_) => return,
        };
        match written {
            Ok(()) => {
                let file = file.to_string_lossy().into_owned();
                self.timeline.add_at(at, Source::Screen, Seen::ScreenChanged { file, changed });
            }
            Err(e) => {
                let what = format!("picture not kept: {e:#}");
                self.timeline.add(Source::Host, Seen::Note { what });
            }
        }
        self.last = Some(picture);
    }
}
