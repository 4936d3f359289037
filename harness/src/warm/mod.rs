//! Warm starts: a machine that begins where another one was ready.
//!
//! After a first cold boot to readiness the machine is saved: its memory is a file already, QEMU writes its
//! devices ([`crate::machine::migration`]), and its overlay is the disk at that moment. A later machine maps the
//! memory copy-on-write, gets the devices, and works on an overlay of that overlay: ready in a third of a second
//! instead of fifteen (measured, TCG). Many machines share the pages that none has written to.
//!
//! [`WarmStates::get`] gives the state of an image's machine, [`start`] a machine from it. A state belongs to one
//! [`StateKey`] and is hashed before it is first used; whatever is wrong with it, the scenario boots cold and says
//! so in one line.

mod key;
mod make;
mod saved;
mod start;
mod store;

pub use key::StateKey;
pub use saved::{SavedState, Spoken};
pub(crate) use start::{Begin, start};
pub use store::{Missing, STATES_LIMIT, WarmStates, not_of};

use crate::condition::Condition;
use crate::condition::asleep::Sleep;
use crate::image::Image;
use crate::scenario::{RequestMoment, Scenario};

/// Why a scenario always boots cold; `None` when it can start warm.
pub fn stays_cold(scenario: &Scenario, image: &Image, without_injection: bool) -> Option<&'static str> {
    if image.manifest.machine.tpm {
        return Some("a TPM's state is not saved");
    }
    if scenario.request.at == RequestMoment::PowerOn {
        return Some("the request comes at power-on");
    }
    let sleeps =
        |c: &Condition| matches!(c, Condition::Asleep(a) if matches!(a.state, Sleep::S3 | Sleep::S4));
    // One of four warm-started guests entered S3 and never resumed (measured, QEMU 7.2).
    if scenario.conditions.iter().any(sleeps) {
        return Some("S3 and S4 are entered from a cold boot only");
    }
    let offline = |c: &Condition| !c.offline(image.manifest.family).is_empty();
    if !without_injection && scenario.conditions.iter().any(offline) {
        return Some("a condition is put into the disk before the boot");
    }
    None
}
