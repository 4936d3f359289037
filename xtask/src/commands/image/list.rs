//! `cargo xtask image list`

use anyhow::Context;
use softoff_harness::image::Image;

use crate::Failure;
use crate::ui::table;

pub(super) fn execute() -> Result<(), Failure> {
    let dir = softoff_images::cache::images(&softoff_images::cache::cache_root());
    let mut rows = Vec::new();
    for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
        let Ok(image) = Image::open_unverified(&entry.path()) else { continue };
        let bytes: u64 =
            image.manifest.files.keys().filter_map(|f| image.file(f).metadata().ok()).map(|m| m.len()).sum();
        let family = serde_json::to_value(image.manifest.family).context("naming the family")?;
        rows.push(vec![
            image.manifest.name.clone(),
            family.as_str().unwrap_or("?").to_owned(),
            image.id.short().to_owned(),
            format!("{} MiB", bytes >> 20),
            entry.path().display().to_string(),
        ]);
    }
    if rows.is_empty() {
        println!("no image in {}; `cargo xtask image build reference` makes one", dir.display());
        return Ok(());
    }
    println!("{}", table(&["name", "family", "id", "size", "folder"], rows));
    Ok(())
}
