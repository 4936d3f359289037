//! What a builder tells while it works. The library prints nothing; the terminal UI listens here.

use std::time::{Duration, Instant};

/// One thing a builder has to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A step begins.
    StepStarted {
        /// Its name, for people.
        name: String,
    },
    /// A step has ended well. A failed step ends with the builder's error instead.
    StepFinished {
        /// Its name, as in [`Event::StepStarted`].
        name: String,
        /// How long it took.
        took: Duration,
    },
    /// A fact worth a line, inside a step or between two.
    Note(String),
}

/// A listener. Called from every thread that builds: steps of two threads may lie across each other.
pub trait Progress: Sync {
    /// Takes one event.
    fn event(&self, event: Event);
}

impl<F: Fn(Event) + Sync> Progress for F {
    fn event(&self, event: Event) {
        self(event);
    }
}

/// Listens to nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn event(&self, _event: Event) {}
}

/// Runs one step and tells its begin and its good end; an error gets the step's name as context.
pub(crate) fn step<T>(
    progress: &dyn Progress,
    name: &str,
    work: impl FnOnce() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    use anyhow::Context;
    progress.event(Event::StepStarted { name: name.to_owned() });
    let begun = Instant::now();
    let done = work().with_context(|| format!("step `{name}` failed"))?;
    progress.event(Event::StepFinished { name: name.to_owned(), took: begun.elapsed() });
    Ok(done)
}

/// Tells one fact.
pub(crate) fn note(progress: &dyn Progress, text: impl Into<String>) {
    progress.event(Event::Note(text.into()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[test]
    fn a_step_is_told_twice_and_a_failed_one_once() {
        let told = Mutex::new(Vec::new());
        let listen = |event: Event| {
            told.lock().unwrap().push(match event {
                Event::StepStarted { name } => format!("start {name}"),
                Event::StepFinished { name, .. } => format!("end {name}"),
                Event::Note(text) => text,
            })
        };
        step(&listen, "a", || Ok(())).unwrap();
        let error = step(&listen, "b", || -> anyhow::Result<()> { anyhow::bail!("no") }).unwrap_err();
        assert_eq!(*told.lock().unwrap(), ["start a", "end a", "start b"]);
        assert_eq!(format!("{error:#}"), "step `b` failed: no");
    }
}
