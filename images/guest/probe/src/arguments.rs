//! The command line of `probe.exe`.
//!
//! ```text
//! probe.exe answers|refuses|abort-loop [--title TEXT] [--text TEXT]
//! probe.exe hangs|slow [--seconds N] [--title TEXT] [--text TEXT]
//! probe.exe service NAME [--stop-seconds N] [--preshutdown]
//! ```

use std::time::Duration;

/// What a probe does when it is asked to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// A window.
    Window {
        /// How it answers.
        behaviour: Behaviour,
        /// Its title.
        title: String,
        /// What it says within; by default, what it will do.
        text: String,
    },
    /// A Win32 service, to be started by the service control manager.
    Service {
        /// The name that it was installed under.
        name: String,
        /// How long it takes to stop.
        stop: Duration,
        /// Whether it asks for SERVICE_CONTROL_PRESHUTDOWN. In Windows a service that does is stopped in the
        /// earlier phase, and bounded by its `PreshutdownTimeout` instead of `WaitToKillServiceTimeout`.
        preshutdown: bool,
    },
}

/// How a window answers the end of the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behaviour {
    /// WM_QUERYENDSESSION: TRUE, at once.
    Answers,
    /// WM_QUERYENDSESSION: does not return, for this long (then TRUE) or for ever.
    Hangs(Option<Duration>),
    /// WM_QUERYENDSESSION: FALSE, with ShutdownBlockReasonCreate.
    Refuses,
    /// WM_QUERYENDSESSION: TRUE, at once; WM_ENDSESSION: takes this long, as if it saved its work.
    Slow(Duration),
    /// As [`Behaviour::Answers`]; and every second it calls AbortSystemShutdownW. That stops a countdown of
    /// InitiateSystemShutdown, not a shutdown by the button.
    Aborts,
}

impl Behaviour {
    /// The word of the command line, of the probe lines, and of `src` (`probe:hangs`).
    pub fn word(self) -> &'static str {
        match self {
            Behaviour::Answers => "answers",
            Behaviour::Hangs(_) => "hangs",
            Behaviour::Refuses => "refuses",
            Behaviour::Slow(_) => "slow",
            Behaviour::Aborts => "abort-loop",
        }
    }

    /// What the window says about itself.
    pub fn sentence(self) -> String {
        match self {
            Behaviour::Answers => "agrees to shutdown at once".into(),
            Behaviour::Hangs(None) => "hangs when asked to end".into(),
            Behaviour::Hangs(Some(time)) => format!("hangs for {} s when asked", time.as_secs()),
            Behaviour::Refuses => "refuses to end".into(),
            Behaviour::Slow(time) => format!("needs {} s to end", time.as_secs()),
            Behaviour::Aborts => "aborts shutdowns every second".into(),
        }
    }
}

/// The usage text.
pub const USAGE: &str = "probe.exe answers|refuses|abort-loop [--title TEXT] [--text TEXT]\n\
                         probe.exe hangs|slow [--seconds N] [--title TEXT] [--text TEXT]\n\
                         probe.exe service NAME [--stop-seconds N] [--preshutdown]";

/// Reads the command line, without the program's name.
pub fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Mode, String> {
    let mut arguments = arguments.into_iter();
    let word = arguments.next().ok_or("a mode is missing")?;
    let name = match word.as_str() {
        "service" => {
            arguments.next().filter(|name| !name.starts_with("--")).ok_or("a service name is missing")?
        }
        _ => String::new(),
    };
    let (mut title, mut text, mut seconds, mut preshutdown) = (None, None, None, false);
    while let Some(option) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{option} needs a value"));
        match (option.as_str(), word.as_str()) {
            ("--title", "answers" | "hangs" | "refuses" | "slow" | "abort-loop") => title = Some(value()?),
            ("--text", "answers" | "hangs" | "refuses" | "slow" | "abort-loop") => text = Some(value()?),
            ("--seconds", "slow" | "hangs") | ("--stop-seconds", "service") => {
                seconds = Some(value()?.parse::<u32>().map_err(|why| format!("{option}: {why}"))?);
            }
            ("--preshutdown", "service") => preshutdown = true,
            _ => return Err(format!("{option} does not belong to {word}")),
        }
    }
    let time = |default: u32| Duration::from_secs(seconds.unwrap_or(default).into());
    let behaviour = match word.as_str() {
        "answers" => Behaviour::Answers,
        "hangs" => Behaviour::Hangs(seconds.map(|seconds| Duration::from_secs(seconds.into()))),
        "refuses" => Behaviour::Refuses,
        "slow" => Behaviour::Slow(time(3)),
        "abort-loop" => Behaviour::Aborts,
        "service" => return Ok(Mode::Service { name, stop: time(0), preshutdown }),
        other => return Err(format!("unknown mode {other}")),
    };
    let title = title.unwrap_or_else(|| format!("Softoff probe {word}"));
    Ok(Mode::Window { title, text: text.unwrap_or_else(|| behaviour.sentence()), behaviour })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn read(line: &str) -> Result<Mode, String> {
        parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn windows_and_services_are_understood() {
        let window = |behaviour: Behaviour, title: &str| {
            Ok(Mode::Window { behaviour, title: title.into(), text: behaviour.sentence() })
        };
        let seconds = Duration::from_secs(12);
        assert_eq!(read("hangs"), window(Behaviour::Hangs(None), "Softoff probe hangs"));
        assert_eq!(read("refuses --title Budget"), window(Behaviour::Refuses, "Budget"));
        assert_eq!(read("slow --title T --seconds 12"), window(Behaviour::Slow(seconds), "T"));
        assert_eq!(read("hangs --seconds 12 --title T"), window(Behaviour::Hangs(Some(seconds)), "T"));
        assert_eq!(read("abort-loop"), window(Behaviour::Aborts, "Softoff probe abort-loop"));
        assert_eq!(
            read("refuses --text Unsaved --title Budget"),
            Ok(Mode::Window {
                behaviour: Behaviour::Refuses,
                title: "Budget".into(),
                text: "Unsaved".into()
            })
        );
        assert_eq!(
            read("service Stubborn --stop-seconds 40 --preshutdown"),
            Ok(Mode::Service { name: "Stubborn".into(), stop: Duration::from_secs(40), preshutdown: true })
        );
    }

    #[rstest]
    #[case("")]
    #[case("dances")]
    #[case("service")]
    #[case("service --stop-seconds 3")]
    #[case("refuses --seconds 3")]
    #[case("service S --text T")]
    #[case("slow --seconds soon")]
    #[case("slow --seconds -1")]
    #[case("hangs --title")]
    fn anything_else_is_an_error(#[case] line: &str) {
        assert!(read(line).is_err(), "{line:?} was accepted");
    }
}
