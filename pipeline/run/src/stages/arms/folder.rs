//! Images with texts, in any layout that a source may have. They first become a temporary pool, so
//! that they go through the same checks.

use crate::stage::Stage as _;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use lynxdata_fetch::{Source, SourceConfig};
use lynxdata_records::Manifest;

use super::pool;
use super::table::{Membership, Writer};
use crate::host::Silent;
use crate::recipe;
use crate::runner::run_stage;
use crate::stage::Context;
use crate::stages::download::Download;
use crate::table;

/// The column of texts in tables.
const CAPTION: &str = "caption";

/// Length of the shorter side to which images are scaled for the temporary pool. Signals for
/// duplicates are measured at this size; features need 64 pixels.
const SIDE: usize = 256;

/// Writes the pairs of a source.
pub(super) fn write(
    context: &Context,
    path: &Path,
    membership: Membership,
    most: usize,
    writer: &mut Writer,
) -> Result<()> {
    let folder = context.run.temporary_folder();
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let folder =
        tempfile::tempdir_in(&folder).with_context(|| format!("cannot create a folder in {}", folder.display()))?;
    let text =
        |path: &Path| path.to_str().map(str::to_owned).with_context(|| format!("{} is not UTF-8", path.display()));
    let mut source = toml::Table::new();
    source.insert("path".to_owned(), text(path)?.into());
    // Tables have their texts in a column; texts of images in a folder or an archive are beside the
    // images, unless there is a column.
    let mut with_column = SourceConfig::new(path, "url");
    with_column.caption = Some(CAPTION.to_owned());
    if Source::open(&with_column, Path::new("/")).is_ok() {
        source.insert("caption".to_owned(), CAPTION.into());
    }
    let mut download = toml::Table::new();
    download.insert("size".to_owned(), i64::try_from(writer.squares.side.max(SIDE))?.into());
    let mut table = toml::Table::new();
    table.insert("output".to_owned(), text(&folder.path().join("pool"))?.into());
    table.insert("source".to_owned(), source.into());
    table.insert("download".to_owned(), download.into());
    let loaded = recipe::of_flags(table, folder.path().to_owned(), &[])?;
    // The recipe of the user has no download, so its host hears of none. An interrupt removes the
    // temporary pool with the temporary folder around it.
    let inner = Context::new(loaded, context.session.clone(), Arc::new(Silent))?;
    run_stage(&Download, &inner)?;
    let manifest: Manifest = inner.run.manifest();
    let files = manifest
        .parts(Download.name())
        .map(|part| table::file(&inner.run, part, "pool"))
        .collect::<Result<Vec<_>>>()?;
    let lost: u64 = manifest.parts(Download.name()).map(|part| part.rows_in - part.rows_out).sum();
    writer.leave_out("rows_without_a_readable_picture", lost);
    pool::write_pool(&files, None, membership, most, context.recipe().seed, writer)
}
