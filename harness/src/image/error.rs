//! Why an image cannot be used.

use std::path::PathBuf;

use super::Sha256Hex;

/// Why an image cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// A file could not be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The manifest is not one.
    #[error("{path} is not an image manifest: {source}")]
    Manifest {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// A manifest of a later Softoff.
    #[error("{path} has manifest schema {found}, this Softoff knows 1")]
    Schema {
        /// Which file.
        path: PathBuf,
        /// The schema found.
        found: u32,
    },
    /// A file's content is not what the manifest says.
    #[error("image file {path} is damaged: SHA-256 is {found}, the manifest says {wanted}")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// Hash in the manifest.
        wanted: Sha256Hex,
        /// Hash of the file.
        found: Sha256Hex,
    },
    /// A word of the manifest could be taken for a path or an option.
    #[error("{path} says {field} `{value}`, which is no plain word")]
    Word {
        /// Which manifest.
        path: PathBuf,
        /// The field.
        field: &'static str,
        /// What it says, escaped.
        value: String,
    },
    /// The manifest names a file without a hash, or one outside its folder.
    #[error("{path} names `{file}`, which has no hash or leaves the image's folder")]
    Unlisted {
        /// Which manifest.
        path: PathBuf,
        /// The file it names.
        file: String,
    },
}
