//! Whether anything new shows of a machine that is to go down.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::super::Session;
use crate::evidence::shows;
use crate::machine::ocr;
use crate::screen_texts::UPDATE_WORK;
use crate::settle;
use crate::text::printable;
use crate::timeline::Seen;

/// Between two looks.
const LOOK: Duration = Duration::from_secs(2);

/// How much longer one waits while the screen says that update work is under way, even when nothing new shows: Azure's
/// guidance for such a machine is hours, and a percentage may stand still for minutes (field reports).
const UPDATE_FACTOR: u32 = 15;

/// Screens that count as new; an animation that OCR reads differently each time is no progress for ever.
const SCREENS: usize = 30;

/// Why it was given up.
pub(super) struct Stalled(pub(super) String);

/// What has shown so far.
pub(super) struct Progress<'a> {
    session: &'a Session<'a>,
    patience: Duration,
    last_news: Instant,
    phases: usize,
    percent: u32,
    screens: HashSet<String>,
}

impl<'a> Progress<'a> {
    pub(super) fn new(session: &'a Session<'a>, patience: Duration) -> Progress<'a> {
        // The first phase is the request itself.
        Progress {
            session,
            patience,
            last_news: Instant::now(),
            phases: 1,
            percent: 0,
            screens: HashSet::new(),
        }
    }

    /// Looks until nothing new has shown for as long as the patience says; tells what is new.
    pub(super) async fn until_stalled(mut self, told: &(dyn Fn(String) + Sync)) -> Stalled {
        // What is there when the button was just pressed is no news.
        let before = newest_text(self.session).await.unwrap_or_default();
        self.screens.insert(words(&before));
        loop {
            let screen = newest_text(self.session).await.unwrap_or_default();
            if let Some(news) = self.news(&screen) {
                self.last_news = Instant::now();
                told(news);
            }
            let updates = shows(&screen, UPDATE_WORK).is_some();
            let patience = self.patience * if updates { UPDATE_FACTOR } else { 1 };
            if self.last_news.elapsed() >= patience {
                let why = if updates { ", though the screen says that update work is under way" } else { "" };
                return Stalled(format!("nothing new has shown for {} s{why}", patience.as_secs()));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    fn news(&mut self, screen: &str) -> Option<String> {
        let phases = settle::phases(&self.session.timeline.snapshot());
        let updates = shows(screen, UPDATE_WORK).is_some();
        if let Some(percent) = percent(screen).filter(|percent| updates && *percent > self.percent) {
            self.percent = percent;
            self.screens.insert(words(screen));
            return Some(format!("update work {percent} %"));
        }
        if phases.len() > self.phases {
            self.phases = phases.len();
            return phases.last().map(|reached| reached.phase.to_string());
        }
        let words = words(screen);
        let new = !words.is_empty() && self.screens.len() < SCREENS && self.screens.insert(words.clone());
        new.then(|| format!("the screen reads: {}", printable(&words, 100)))
    }
}

/// What the newest picture says; `None` without a picture, or without OCR.
async fn newest_text(session: &Session<'_>) -> Option<String> {
    let file = session.timeline.snapshot().iter().rev().find_map(|o| match &o.what {
        Seen::ScreenChanged { file, .. } => Some(file.clone()),
        _ => None,
    })?;
    if !ocr::available() {
        return None;
    }
    ocr::read(&session.pictures.join(file)).await
}

/// The update work that the screen shows, as a sentence's beginning.
pub(super) async fn update_work(session: &Session<'_>) -> Option<String> {
    let screen = newest_text(session).await?;
    shows(&screen, UPDATE_WORK)?;
    Some(match percent(&screen) {
        Some(percent) => format!("update work is under way ({percent} %)"),
        None => "update work is under way".to_owned(),
    })
}

/// The letters of a screen, line after line: numbers and what OCR makes of a spinner are left out.
fn words(screen: &str) -> String {
    let line = |line: &str| {
        let words =
            line.split_whitespace().filter(|word| word.chars().filter(|c| c.is_alphabetic()).count() > 1);
        words.collect::<Vec<_>>().join(" ")
    };
    screen.lines().map(line).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" / ")
}

/// The last number that stands before a per cent sign, at most 100.
fn percent(screen: &str) -> Option<u32> {
    let mut parts: Vec<&str> = screen.split('%').collect();
    // What follows the last sign has none behind it.
    parts.pop();
    parts.iter().rev().find_map(|part| {
        let before = part.trim_end().trim_end_matches(|c: char| c.is_ascii_digit()).len();
        part.trim_end().get(before..)?.parse().ok().filter(|percent| *percent <= 100)
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("Working on updates\n40% complete\nDon't turn off your computer", Some(40))]
    #[case("업데이트 작업 중 7 % 완료", Some(7))]
    #[case("100%", Some(100))]
    #[case("of 5% and 60%", Some(60))]
    #[case("battery 400%", None)]
    #[case("no number %", None)]
    #[case("40 complete", None)]
    #[case("", None)]
    fn percentages_are_read_from_screens(#[case] screen: &str, #[case] is: Option<u32>) {
        assert_eq!(percent(screen), is);
    }

    #[test]
    fn numbers_and_spinners_are_no_words() {
        assert_eq!(words("Working on updates\n40% complete |\n..\n"), "Working on updates / complete");
        assert_eq!(words("41% complete O"), words("40% complete /"));
    }
}
