//! The display's power, by the DPMS extension of the X server: what Windows does for VIDEOIDLE and for
//! PBUTTONACTION 4.
//!
//! It is the real way down to the device: Xorg switches the CRTC off, the kernel's bochs driver blanks the VGA
//! (attribute index without bit 5), and QEMU draws black.

use anyhow::Context;
use x11rb::connection::{Connection, RequestConnection};
use x11rb::protocol::dpms::{self, ConnectionExt as _, DPMSMode};
use x11rb::protocol::xproto::{ConnectionExt as _, CreateWindowAux, WindowClass};
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

/// Has every program paint its windows again, as xrefresh does: a window without background over all of them
/// comes and goes. After S4 the video memory is a new machine's, and the X server does not know.
pub(crate) fn repaint() -> anyhow::Result<()> {
    let (x, screen) = RustConnection::connect(Some(":0")).context("cannot reach the X server")?;
    let root = x.setup().roots.get(screen).context("the X server has no screen")?;
    let window = x.generate_id()?;
    let (width, height) = (root.width_in_pixels, root.height_in_pixels);
    let (class, aux) = (WindowClass::INPUT_OUTPUT, CreateWindowAux::new().override_redirect(1));
    x.create_window(0, window, root.root, 0, 0, width, height, 0, class, root.root_visual, &aux)?.check()?;
    x.map_window(window)?.check()?;
    x.destroy_window(window)?.check()?;
    Ok(())
}
