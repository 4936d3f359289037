//! Assembles the boot-sector payload of the KVM preflight (`kvm-preflight/staged.S`) with binutils.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

const SOURCE: &str = "kvm-preflight/staged.S";
/// Boot sector and three more.
const SIZE: u64 = 4 * 512;
/// The payload, and one that stops on purpose after stage 4: the negative control of the tests.
const PAYLOADS: [(&str, u8); 2] = [("kvm-preflight", 0), ("kvm-preflight-stops-after-4", 4)];

fn main() -> ExitCode {
    println!("cargo:rerun-if-changed={SOURCE}");
    println!("cargo:rerun-if-changed=build.rs");
    let Some(out) = std::env::var_os("OUT_DIR").map(PathBuf::from) else {
        println!("cargo::error=OUT_DIR is not set: run this through cargo");
        return ExitCode::FAILURE;
    };
    for (name, stop_after) in PAYLOADS {
        if let Err(why) = assemble(&out, name, stop_after) {
            println!("cargo::error={SOURCE}: {why}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn assemble(out: &Path, name: &str, stop_after: u8) -> Result<(), String> {
    let file = |extension: &str| out.join(name).with_extension(extension).display().to_string();
    let (object, linked, payload) = (file("o"), file("elf"), file("bin"));
    let stop = format!("STOP_AFTER={stop_after}");
    run("as", &["--64", "--fatal-warnings", "--defsym", &stop, SOURCE, "-o", &object])?;
    run("ld", &["-m", "elf_x86_64", "-Ttext=0x7c00", "-e", "boot", &object, "-o", &linked])?;
    run("objcopy", &["-O", "binary", "-j", ".text", &linked, &payload])?;
    let size = std::fs::metadata(&payload).map_err(|e| format!("{payload}: {e}"))?.len();
    match size == SIZE {
        true => Ok(()),
        false => {
            Err(format!("the payload has {size} bytes, not {SIZE}: change REST in it, and SIZE in build.rs"))
        }
    }
}

fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(arguments).output();
    let output = output.map_err(|e| {
        format!("cannot run `{program}`: {e}; next: apt-get install build-essential (binutils for x86-64)")
    })?;
    match output.status.success() {
        true => Ok(()),
        false => {
            let said = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
            Err(format!("`{program}` ended with {}: {said}", output.status))
        }
    }
}
