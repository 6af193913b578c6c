//! Which files the program reads.

use std::io::Read;
use std::path::{Path, PathBuf};

use walkdir::{DirEntry, WalkDir};

/// Larger files are left out: a task's result is kept in the store.
pub(crate) const MAX_BYTES: u64 = 4 << 20;

/// What a walk found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Text files, ascending.
    pub(crate) files: Vec<PathBuf>,
    /// Text files over [`MAX_BYTES`].
    pub(crate) too_large: usize,
}

/// The text files under `folder`, without hidden folders, build output, and `skip`.
pub(crate) fn text_files(folder: &Path, skip: &Path) -> Found {
    let skip = skip.canonicalize().ok();
    let mut found = Found::default();
    let walk = WalkDir::new(folder).sort_by_file_name().into_iter().filter_entry(is_wanted);
    for entry in walk.filter_map(Result::ok).filter(|e| e.file_type().is_file()) {
        let path = entry.into_path();
        if skip.is_some() && path.canonicalize().ok() == skip {
            continue;
        }
        match looks_like_text(&path) {
            Some(bytes) if bytes > MAX_BYTES => found.too_large += 1,
            Some(_) => found.files.push(path),
            None => {}
        }
    }
    found
}

fn is_wanted(entry: &DirEntry) -> bool {
    let name = entry.file_name().to_string_lossy();
    let build_output = entry.file_type().is_dir() && (name == "target" || name == "node_modules");
    entry.depth() == 0 || !(name.starts_with('.') || build_output)
}

/// The size of a file whose first bytes are text; `None` for another one, an empty one, or one that cannot be read.
fn looks_like_text(path: &Path) -> Option<u64> {
    let mut file = std::fs::File::open(path).ok()?;
    let bytes = file.metadata().ok()?.len();
    let mut head = [0; 8192];
    let mut read = 0;
    loop {
        match file.read(&mut head[read..]).ok()? {
            0 => break,
            n => read += n,
        }
        if read == head.len() {
            break;
        }
    }
    let head = &head[..read];
    let is_text = match std::str::from_utf8(head) {
        Ok(_) => true,
        // The cut may lie within a character.
        Err(error) => error.error_len().is_none() && head.len() - error.valid_up_to() < 4,
    };
    (read > 0 && is_text && !head.contains(&0)).then_some(bytes)
}
