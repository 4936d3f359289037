//! What Windows shows on the screen, per language, and how sure each text is (fact sheet F).
//!
//! Matching ignores letter case, punctuation and spaces, so that stems are enough. Sources: a documentation
//! page or field report read in a stored copy, or memory; none was seen on a machine of ours. The reference
//! guest shows the English ones.

/// Update work: "Working on updates NN% complete. Don't turn off your computer." (read, Azure support
/// pages; the Korean look-alike read once, the last one from the document that lists the seven causes).
pub const UPDATE_WORK: &[&str] = &[
    "working on updates",
    "turn off your computer",
    "turn off your pc",
    "getting windows ready",
    "컴퓨터를 끄지 마",
    "업데이트 작업 중",
    "전원 코드를 뽑지 마십시오",
];

/// The Shutdown Event Tracker's dialog (English from memory, the Korean title read).
pub const EVENT_TRACKER: &[&str] = &[
    "shutdown event tracker",
    "reason that best describes",
    "why did the computer shut down",
    "종료 이벤트 추적기",
];

/// The screen that names applications which hold the shutdown (phrases read; the Korean unsure).
pub const BLOCKED_SHUTDOWN: &[&str] = &[
    "preventing you from shutting down",
    "preventing shutdown",
    "shut down anyway",
    "종료하지 못하도록 차단",
    "강제로 종료",
];

/// Sign-in and lock screens (from memory; the Korean too).
pub const SIGN_IN: &[&str] =
    &["ctrl alt delete to unlock", "ctrl alt delete to sign in", "잠금을 해제하세요"];

/// The plain picture of a shutdown under way (from memory). It says so in a line of its own: the screen that
/// names applications says "Closing 1 app and shutting down".
pub const SHUTTING_DOWN: &[&str] = &["shutting down", "종료 중"];

/// What the policy VerboseStatus makes of it while services stop (from memory).
pub const STOPPING_SERVICES: &[&str] = &["shutting down service", "stopping services"];
