//! What Windows shows on the screen, per language, and how sure each text is (fact sheet F).
//!
//! Matching ignores letter case, punctuation and spaces, so that stems are enough. None of these was seen on a
//! machine of ours: each is from a page that was read, or from memory. The reference guest shows the English
//! ones. A language more is a row more in each table.

use std::fmt;

/// A language of Windows' screens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// English, United States.
    EnUs,
    /// Korean.
    KoKr,
}

impl Language {
    /// As Windows names it.
    pub fn tag(self) -> &'static str {
        match self {
            Language::EnUs => "en-US",
            Language::KoKr => "ko-KR",
        }
    }

    /// As tesseract names its data.
    pub fn tesseract(self) -> &'static str {
        match self {
            Language::EnUs => "eng",
            Language::KoKr => "kor",
        }
    }

    /// All that the tables have.
    pub const ALL: [Language; 2] = [Language::EnUs, Language::KoKr];
}

/// How sure a text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sure {
    /// Read in documentation, a support page or a field report.
    Read,
    /// Read, but in a look-alike or a translation of the documentation.
    Alike,
    /// From memory.
    Memory,
}

/// A text that a screen may show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScreenText {
    /// Its stem.
    pub text: &'static str,
    /// Its language.
    pub language: Language,
    /// How sure it is.
    pub sure: Sure,
}

impl fmt::Display for ScreenText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sure = match self.sure {
            Sure::Read => "as documented",
            Sure::Alike => "as in a look-alike",
            Sure::Memory => "as remembered",
        };
        write!(f, "\"{}\", {} {sure}", self.text, self.language.tag())
    }
}

const fn en(text: &'static str, sure: Sure) -> ScreenText {
    ScreenText { text, language: Language::EnUs, sure }
}

const fn ko(text: &'static str, sure: Sure) -> ScreenText {
    ScreenText { text, language: Language::KoKr, sure }
}

/// What the loader of an installation disc asks for.
pub const PRESS_ANY_KEY: &[ScreenText] =
    &[en("any key to boot from", Sure::Read), ko("아무 키나 누르", Sure::Memory)];

/// Update work: "Working on updates NN% complete. Don't turn off your computer." The last one is in the
/// document that lists the seven causes.
pub const UPDATE_WORK: &[ScreenText] = &[
    en("working on updates", Sure::Read),
    en("turn off your computer", Sure::Read),
    en("turn off your pc", Sure::Read),
    en("getting windows ready", Sure::Read),
    ko("컴퓨터를 끄지 마", Sure::Read),
    ko("업데이트 작업 중", Sure::Alike),
    ko("전원 코드를 뽑지 마십시오", Sure::Read),
];

/// The Shutdown Event Tracker's dialog.
pub const EVENT_TRACKER: &[ScreenText] = &[
    en("shutdown event tracker", Sure::Memory),
    en("reason that best describes", Sure::Memory),
    en("why did the computer shut down", Sure::Memory),
    ko("종료 이벤트 추적기", Sure::Read),
];

/// The screen that names applications which hold the shutdown.
pub const BLOCKED_SHUTDOWN: &[ScreenText] = &[
    en("preventing you from shutting down", Sure::Read),
    en("preventing shutdown", Sure::Read),
    en("shut down anyway", Sure::Read),
    ko("종료하지 못하도록 차단", Sure::Memory),
    ko("강제로 종료", Sure::Memory),
];

/// Sign-in and lock screens.
pub const SIGN_IN: &[ScreenText] = &[
    en("ctrl alt delete to unlock", Sure::Memory),
    en("ctrl alt delete to sign in", Sure::Memory),
    ko("잠금을 해제하세요", Sure::Memory),
];

/// The plain picture of a shutdown under way. It says so in a line of its own: the screen that names
/// applications says "Closing 1 app and shutting down".
pub const SHUTTING_DOWN: &[ScreenText] = &[en("shutting down", Sure::Memory), ko("종료 중", Sure::Memory)];

/// What the policy VerboseStatus makes of it while services stop.
pub const STOPPING_SERVICES: &[ScreenText] =
    &[en("shutting down service", Sure::Memory), en("stopping services", Sure::Memory)];
