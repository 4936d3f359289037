//! `cargo xtask image catalog`

use std::path::PathBuf;

use softoff_images::catalog::{Catalog, Entry, FirmwareKind};

use crate::Failure;
use crate::ui::table;

/// Show what can be built from a disc of yours
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  cargo xtask image catalog
  cargo xtask image catalog windows-11      # its disc, its machine, its quirks with reasons and sources")]
pub(super) struct Args {
    /// Everything that is known of one
    name: Option<String>,
    /// A catalogue of your own instead of Softoff's
    #[arg(long, value_name = "FILE")]
    catalog: Option<PathBuf>,
}

pub(super) fn execute(args: &Args) -> Result<(), Failure> {
    let usage = |e| Failure::Usage(anyhow::Error::from(e));
    let catalog = Catalog::load(args.catalog.as_deref()).map_err(usage)?;
    match &args.name {
        Some(name) => println!("{}", everything(&catalog, catalog.get(name).map_err(usage)?)),
        None => println!("{}", overview(&catalog)),
    }
    Ok(())
}

fn firmware(entry: &Entry) -> String {
    entry.firmware.iter().map(FirmwareKind::to_string).collect::<Vec<_>>().join(", ")
}

fn overview(catalog: &Catalog) -> comfy_table::Table {
    let rows = catalog.images.iter().map(|entry| {
        let digest = entry.iso.sha256.as_ref().map_or("none on record", |digest| digest.short());
        vec![
            entry.name.clone(),
            entry.title.clone(),
            entry.iso.file.clone(),
            digest.to_owned(),
            firmware(entry),
            format!("{} GiB", entry.disk.default_gib),
        ]
    });
    table(&["name", "system", "disc", "sha256", "firmware", "disk"], rows.collect())
}

fn everything(catalog: &Catalog, entry: &Entry) -> String {
    let places = |names: &[String]| {
        let place = |name: &String| catalog.sources.get(name).cloned().unwrap_or_default();
        names.iter().map(place).collect::<Vec<_>>().join("; ")
    };
    let machine = &entry.machine;
    let digest = entry.iso.sha256.as_ref().map_or("none on record".to_owned(), |digest| digest.to_string());
    let mut lines = vec![
        entry.title.clone(),
        format!("  disc      {}", entry.iso.file),
        format!(
            "  size      {}",
            entry.iso.size.map_or("not on record".into(), |size| format!("{size} bytes"))
        ),
        format!("  sha256    {digest}"),
        format!("            by {}", places(&entry.iso.source)),
        format!("  firmware  {}", firmware(entry)),
        format!(
            "  machine   {} x{} {} MiB, disk on {}{}{}",
            machine.machine,
            machine.smp,
            machine.memory_mib,
            format!("{:?}", machine.disk_bus).to_ascii_lowercase(),
            if machine.tpm { ", TPM 2.0" } else { "" },
            if machine.secure_boot { ", Secure Boot" } else { "" }
        ),
        format!("  memory    {}", entry.memory),
        format!("  disk      {} GiB, at least {}", entry.disk.default_gib, entry.disk.least_gib),
    ];
    if let Some(edition) = &entry.editions {
        lines.push(format!("  edition   {}, index {}", edition.name, edition.index));
    }
    if let Some(folder) = &entry.drivers {
        let driver = &catalog.driver_disc;
        lines.push(format!("  drivers   {}: */{folder}/amd64 of {}", driver.file, driver.needed.join(", ")));
    }
    for quirk in &entry.quirks {
        lines.push(format!("  - {}\n    {} ({})", quirk.what, quirk.why, places(&quirk.source)));
    }
    lines.join("\n")
}
