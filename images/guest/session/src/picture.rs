//! What is on screen, as data.

/// The event tracker's window title.
pub(crate) const TRACKER_TITLE: &str = "Shutdown Event Tracker";

/// The screen: what fills it, and what stands above that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Picture {
    /// Fills the screen, below or above the applications.
    pub(crate) base: Base,
    /// Above everything.
    pub(crate) overlay: Option<Overlay>,
}

/// What fills the screen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Base {
    /// The desktop, with one line about the state.
    Desktop(String),
    /// The sign-in screen. It has no clock: a picture that changes by itself would look like activity.
    SignIn {
        /// Whom it names.
        user: String,
        /// That user is logged on, and locked the console.
        locked: bool,
    },
    /// "Shutting down", and nothing moves.
    ShuttingDown,
    /// "Working on updates"; each `beat` moves the dots on.
    Updating {
        /// 0 to 100.
        percent: u32,
        /// Counts the paintings.
        beat: u32,
    },
}

impl Base {
    /// Whether it hides the applications.
    pub(crate) fn covers(&self) -> bool {
        !matches!(self, Base::Desktop(_))
    }
}

impl From<Base> for Picture {
    fn from(base: Base) -> Picture {
        Picture { base, overlay: None }
    }
}

/// What stands above it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Overlay {
    /// The blocked shutdown resolver, with the titles of what blocks.
    Blocked(Vec<String>),
    /// The Shutdown Event Tracker's dialog.
    Tracker,
}
