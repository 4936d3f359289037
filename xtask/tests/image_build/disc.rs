//! Discs made for the test: one that behaves like Setup's first screen, and one that looks like the drivers'.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Where the firmware puts a boot image of a disc.
const ORIGIN: u16 = 0x7c00;

/// A program for the firmware's 16-bit world, put together by hand: it shows `prompt`, waits for a key, shows `after`,
/// and writes `marker` to COM1. Then it stands still.
fn boot_image(prompt: &str, after: &str, marker: &str) -> Vec<u8> {
    // Texts come behind the code; their places are known once the code's length is.
    let code = |prompt_at: u16, after_at: u16, marker_at: u16| -> Vec<u8> {
        let mut code: Vec<u8> = vec![
            0xfa, 0x31, 0xc0, 0x8e, 0xd8, 0x8e, 0xd0, 0xbc, 0x00, 0x7c, 0xfb, 0xfc, // stack, segments
            0xb8, 0x03, 0x00, 0xcd, 0x10, // int 10h: text mode
        ];
        let print = |code: &mut Vec<u8>, at: u16| {
            code.push(0xbe); // si = text
            code.extend(at.to_le_bytes());
            // lodsb; test al,al; jz +9; mov ah,0eh; mov bx,7; int 10h; jmp back
            code.extend([0xac, 0x84, 0xc0, 0x74, 0x09, 0xb4, 0x0e, 0xbb, 0x07, 0x00, 0xcd, 0x10, 0xeb, 0xf2]);
        };
        print(&mut code, prompt_at);
        code.extend([0xb4, 0x00, 0xcd, 0x16]); // int 16h: wait for a key
        print(&mut code, after_at);
        code.extend([0x31, 0xd2, 0xb8, 0xe3, 0x00, 0xcd, 0x14]); // int 14h: COM1, 9600 8n1
        code.push(0xbe);
        code.extend(marker_at.to_le_bytes());
        // lodsb; test al,al; jz +6; mov ah,1; int 14h; jmp back
        code.extend([0xac, 0x84, 0xc0, 0x74, 0x06, 0xb4, 0x01, 0xcd, 0x14, 0xeb, 0xf5]);
        code.extend([0xf4, 0xeb, 0xfd]); // hlt for ever
        code
    };
    let length = u16::try_from(code(0, 0, 0).len()).unwrap();
    let texts: Vec<Vec<u8>> = [prompt, &format!("\r\n{after}\r\n"), &format!("{marker}\r\n")]
        .map(|text| text.bytes().chain([0]).collect())
        .into();
    let mut at = ORIGIN + length;
    let mut places = Vec::new();
    for text in &texts {
        places.push(at);
        at += u16::try_from(text.len()).unwrap();
    }
    let mut image = code(places[0], places[1], places[2]);
    image.extend(texts.concat());
    assert!(image.len() <= 2048, "four sectors are loaded");
    image.resize(2048, 0);
    image
}

fn mkisofs(tree: &Path, out: &Path, more: &[&str]) {
    let status = Command::new("xorriso")
        .args(["-as", "mkisofs", "-quiet", "-J", "-r", "-V", "TEST"])
        .args(more)
        .arg("-o")
        .arg(out)
        .arg(tree)
        .status();
    assert!(status.expect("next: cargo xtask doctor --install").success());
}

/// A disc that shows `prompt` and waits for a key.
pub(crate) fn setup(dir: &Path, prompt: &str) -> PathBuf {
    let tree = dir.join("setup");
    std::fs::create_dir_all(&tree).unwrap();
    let image = boot_image(prompt, "Setup is starting", "softoff-install: windows-pe");
    std::fs::write(tree.join("boot.bin"), image).unwrap();
    let iso = dir.join("setup.iso");
    mkisofs(&tree, &iso, &["-b", "boot.bin", "-no-emul-boot", "-boot-load-size", "4"]);
    iso
}

/// A disc with these folders, each with a driver's files in it, and the agent's installer.
pub(crate) fn drivers(dir: &Path, folders: &[&str]) -> PathBuf {
    let tree = dir.join("drivers");
    for folder in folders {
        let place = tree.join(folder);
        std::fs::create_dir_all(&place).unwrap();
        for file in ["driver.inf", "driver.sys", "driver.cat", "driver.pdb"] {
            std::fs::write(place.join(file), format!("{folder}/{file}\n")).unwrap();
        }
    }
    std::fs::create_dir_all(tree.join("guest-agent")).unwrap();
    std::fs::write(tree.join("guest-agent/qemu-ga-x86_64.msi"), "an installer").unwrap();
    let iso = dir.join("drivers.iso");
    mkisofs(&tree, &iso, &[]);
    iso
}
