//! Shows an image being built: each step with its time.

use std::sync::Mutex;
use std::time::Duration;

use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use softoff_harness::image::Image;
use softoff_images::progress::{Event, Progress};

use super::{is_live, seconds};

/// The reference image: verified from the cache, or built with progress on standard error.
pub(crate) fn reference() -> anyhow::Result<Image> {
    let cache = softoff_images::cache::cache_root();
    let began = std::time::Instant::now();
    let steps = Mutex::new(0);
    let image = showing("reference", |progress| {
        let listen = |event: Event| {
            if let (Event::StepFinished { .. }, Ok(mut steps)) = (&event, steps.lock()) {
                *steps += 1;
            }
            progress.event(event);
        };
        softoff_images::reference::build_or_open(&cache, &listen)
    })?;
    let image =
        image.context("the reference image could not be made; `cargo xtask doctor` checks what it needs")?;
    let built = steps.into_inner().is_ok_and(|n| n > 1);
    let verb = if built { "built" } else { "verified" };
    eprintln!("reference image {} {verb} in {}", image.id.short(), seconds(began.elapsed()));
    Ok(image)
}

/// Does something long with an image and shows each step with its time, on standard error.
pub(crate) fn showing<T>(name: &str, work: impl FnOnce(&dyn Progress) -> T) -> anyhow::Result<T> {
    let bar = is_live().then(ProgressBar::new_spinner);
    if let Some(bar) = &bar {
        bar.set_style(
            ProgressStyle::with_template("{spinner} {msg} ({elapsed})")
                .context("the progress line's form")?,
        );
        bar.enable_steady_tick(Duration::from_millis(120));
    }
    let say = |line: String| match &bar {
        Some(bar) => bar.println(line),
        None => eprintln!("{line}"),
    };
    let listen = |event: Event| match event {
        Event::StepStarted { name: step } => {
            if let Some(bar) = &bar {
                bar.set_message(format!("{name} image: {step}"));
            }
        }
        Event::StepFinished { name, took } => say(format!("  {:>8}  {name}", seconds(took))),
        Event::Note(text) => say(format!("            {text}")),
    };
    let done = work(&listen);
    if let Some(bar) = &bar {
        bar.finish_and_clear();
    }
    Ok(done)
}
