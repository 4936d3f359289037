//! The display's power, by the DPMS extension of the X server: what Windows does for VIDEOIDLE and for
//! PBUTTONACTION 4.
//!
//! It is the real way down to the device: Xorg switches the CRTC off, the kernel's bochs driver blanks the VGA
//! (attribute index without bit 5), and QEMU draws black.

use anyhow::Context;
use x11rb::connection::RequestConnection;
use x11rb::protocol::dpms::{self, ConnectionExt, DPMSMode};
use x11rb::rust_connection::RustConnection;

/// Switches the display; returns when the X server has done it.
pub(crate) fn switch(on: bool) -> anyhow::Result<()> {
    let (x, _) = RustConnection::connect(Some(":0")).context("cannot reach the X server")?;
    x.extension_information(dpms::X11_EXTENSION_NAME)?.context("the X server has no DPMS")?;
    // Levels can be forced only while DPMS is enabled; its own timeouts are zero in xorg.conf.
    x.dpms_enable()?.check().context("the X server did not enable DPMS")?;
    let level = if on { DPMSMode::ON } else { DPMSMode::OFF };
    x.dpms_force_level(level)?
        .check()
        .with_context(|| format!("the X server did not force DPMS {level:?}"))?;
    Ok(())
}
