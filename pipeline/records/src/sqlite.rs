//! SQLite databases that are written once and only read afterwards.
//!
//! Rows must arrive in the order of their B-trees. So every page is written once, without a
//! journal, and the same rows give the same bytes. The format is that of
//! <https://www.sqlite.org/fileformat2.html>.

use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// Bytes of a page: SQLite's default.
const PAGE: usize = 4096;

/// Bytes of the file header, at the start of the first page.
const FILE_HEADER: usize = 100;

/// The SQLite version in the file header, 3.45.0. Later versions write the same format.
const SQLITE_VERSION: u32 = 3_045_000;

/// A value of a row.
#[derive(Debug, Clone, Copy)]
pub enum Value<'a> {
    /// No value.
    Null,
    /// A whole number.
    Integer(i64),
    /// A text.
    Text(&'a str),
}

/// A database that is being written.
pub struct Database {
    path: PathBuf,
    output: BufWriter<File>,
    /// Number of pages so far, with the first one, which is reserved.
    pages: u32,
    /// The cells of the schema table, whose root is the first page.
    schema: Vec<Vec<u8>>,
}

/// The B-tree of a table or an index that is being written.
pub struct Tree {
    kind: Kind,
    /// The cells of the current leaf; `bytes` counts them with their pointers.
    cells: Vec<Vec<u8>>,
    bytes: usize,
    /// The previous leaf of an index, and the entry between it and the current leaf.
    before: Option<(Vec<Vec<u8>>, Vec<u8>)>,
    /// Children of the level above: each page, and the separator after it (empty after the last
    /// page).
    children: Vec<(u32, Vec<u8>)>,
    rows: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Table,
    Index,
}

impl Kind {
    fn of_page(self, is_leaf: bool) -> u8 {
        match (self, is_leaf) {
            (Kind::Table, true) => 13,
            (Kind::Table, false) => 5,
            (Kind::Index, true) => 10,
            (Kind::Index, false) => 2,
        }
    }
}

impl Database {
    /// Begins a file.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be created.
    pub fn create(path: &Path) -> Result<Database> {
        let failed = |source| Error::io("create", path, source);
        let mut output = BufWriter::new(File::create(path).map_err(failed)?);
        output.write_all(&[0; PAGE]).map_err(failed)?;
        Ok(Database { path: path.to_owned(), output, pages: 1, schema: Vec::new() })
    }

    /// Finishes a table and adds it to the schema; `sql` is the statement that would create it.
    ///
    /// # Errors
    /// [`Error::Io`] if writing fails.
    pub fn add_table(&mut self, name: &str, sql: &str, rows: Tree) -> Result<()> {
        self.add("table", name, name, Value::Text(sql), rows)
    }

    /// Finishes an index of a table and adds it to the schema. An index without `sql` is that of a
    /// constraint.
    ///
    /// # Errors
    /// [`Error::Io`] if writing fails.
    pub fn add_index(&mut self, name: &str, table: &str, sql: Option<&str>, entries: Tree) -> Result<()> {
        self.add("index", name, table, sql.map_or(Value::Null, Value::Text), entries)
    }

    fn add(&mut self, kind: &str, name: &str, table: &str, sql: Value, tree: Tree) -> Result<()> {
        let root = tree.end(self)?;
        let row = [Value::Text(kind), Value::Text(name), Value::Text(table), Value::Integer(root.into()), sql];
        let number = self.schema.len() as i64 + 1;
        self.schema.push(table_cell(number, &record(&row)));
        Ok(())
    }

    /// Writes the first page, without which the file is not a database.
    ///
    /// # Errors
    /// [`Error::Io`] if writing fails.
    pub fn finish(mut self) -> Result<()> {
        let mut page = page_of(Kind::Table.of_page(true), &self.schema, None, FILE_HEADER);
        page[..16].copy_from_slice(b"SQLite format 3\0");
        page[16..18].copy_from_slice(&(PAGE as u16).to_be_bytes());
        // Versions of the write and read format, reserved bytes per page, and the payload
        // fractions, which are fixed.
        page[18..24].copy_from_slice(&[1, 1, 0, 64, 32, 32]);
        let fields = [
            (24, 1),          // changes of the file
            (28, self.pages), // pages
            (40, 1),          // changes of the schema
            (44, 4),          // format of the schema
            (56, 1),          // UTF-8
            (92, 1),          // the change counter for which the number of pages is valid
            (96, SQLITE_VERSION),
        ];
        for (place, value) in fields {
            page[place..place + 4].copy_from_slice(&value.to_be_bytes());
        }
        let written = self.output.seek(SeekFrom::Start(0)).and_then(|_| self.output.write_all(&page));
        let written = written.and_then(|()| self.output.flush());
        written.map_err(|source| Error::io("write", &self.path, source))
    }

    /// Writes a page and returns its number.
    fn page(&mut self, kind: u8, cells: &[Vec<u8>], last_child: Option<u32>) -> Result<u32> {
        let page = page_of(kind, cells, last_child, 0);
        self.output.write_all(&page).map_err(|source| Error::io("write", &self.path, source))?;
        self.pages += 1;
        Ok(self.pages)
    }
}

impl Tree {
    /// Begins a table.
    pub fn table() -> Tree {
        Tree::of(Kind::Table)
    }

    /// Begins an index.
    pub fn index() -> Tree {
        Tree::of(Kind::Index)
    }

    fn of(kind: Kind) -> Tree {
        Tree { kind, cells: Vec::new(), bytes: 0, before: None, children: Vec::new(), rows: 0 }
    }

    /// Appends a row to a table and returns its number, or an entry to an index: the indexed values
    /// and, last, the number of the row. Entries must be in the order of their values, texts in
    /// byte order. A row may have at most 1 KiB, a quarter of a page.
    ///
    /// # Errors
    /// [`Error::Io`] if writing fails.
    pub fn push(&mut self, database: &mut Database, values: &[Value]) -> Result<i64> {
        self.rows += 1;
        let record = record(values);
        debug_assert!(record.len() <= PAGE / 4, "longer rows would need overflow pages");
        let cell = match self.kind {
            Kind::Table => table_cell(self.rows, &record),
            Kind::Index => index_cell(&record),
        };
        // A page has a header of 8 bytes; a cell has a pointer of 2 bytes.
        if 8 + self.bytes + cell.len() + 2 <= PAGE {
            self.bytes += cell.len() + 2;
            self.cells.push(cell);
            return Ok(self.rows);
        }
        let leaf = std::mem::take(&mut self.cells);
        self.bytes = 0;
        match self.kind {
            Kind::Table => {
                let page = database.page(self.kind.of_page(true), &leaf, None)?;
                self.children.push((page, varint(self.rows - 1)));
                self.bytes = cell.len() + 2;
                self.cells.push(cell);
            }
            Kind::Index => {
                self.write_leaf_before(database)?;
                self.before = Some((leaf, cell));
            }
        }
        Ok(self.rows)
    }

    fn write_leaf_before(&mut self, database: &mut Database) -> Result<()> {
        if let Some((leaf, between)) = self.before.take() {
            let page = database.page(self.kind.of_page(true), &leaf, None)?;
            self.children.push((page, between));
        }
        Ok(())
    }

    /// Writes the remaining pages and returns the root page.
    fn end(mut self, database: &mut Database) -> Result<u32> {
        if self.cells.is_empty()
            && let Some((leaf, between)) = &mut self.before
            && let Some(last) = leaf.pop()
        {
            // A leaf must not be empty. So the entry between becomes its only one, and the last
            // entry of the previous leaf takes the place between.
            self.cells.push(std::mem::replace(between, last));
        }
        self.write_leaf_before(database)?;
        let page = database.page(self.kind.of_page(true), &self.cells, None)?;
        let mut children = self.children;
        children.push((page, Vec::new()));
        while children.len() > 1 {
            children = level_above(database, self.kind, &children)?;
        }
        Ok(children[0].0)
    }
}

/// Writes the pages of the level above the children. Returns them with the separator after each.
fn level_above(database: &mut Database, kind: Kind, children: &[(u32, Vec<u8>)]) -> Result<Vec<(u32, Vec<u8>)>> {
    // A page has a header of 12 bytes and, for every child, a pointer of 2 bytes and a page number
    // of 4 bytes.
    let largest = children.iter().map(|(_, behind)| behind.len() + 6).max().unwrap_or(1);
    let most = (PAGE - 12) / largest;
    let pages = children.len().div_ceil(most);
    let mut above = Vec::with_capacity(pages);
    for number in 0..pages {
        // Children are spread evenly, so that no page has a single child.
        let range = children.len() * number / pages..children.len() * (number + 1) / pages;
        let (last, others) = children[range].split_last().expect("there are more children than pages");
        let cells: Vec<Vec<u8>> =
            others.iter().map(|(page, behind)| [&page.to_be_bytes(), behind.as_slice()].concat()).collect();
        above.push((database.page(kind.of_page(false), &cells, Some(last.0))?, last.1.clone()));
    }
    Ok(above)
}

/// Returns a page with cells, whose header starts at `offset`.
fn page_of(kind: u8, cells: &[Vec<u8>], last_child: Option<u32>, offset: usize) -> Vec<u8> {
    let mut page = vec![0; PAGE];
    let mut content = PAGE;
    let mut pointer = offset + if last_child.is_some() { 12 } else { 8 };
    for cell in cells {
        content -= cell.len();
        page[content..content + cell.len()].copy_from_slice(cell);
        page[pointer..pointer + 2].copy_from_slice(&(content as u16).to_be_bytes());
        pointer += 2;
    }
    page[offset] = kind;
    page[offset + 3..offset + 5].copy_from_slice(&(cells.len() as u16).to_be_bytes());
    page[offset + 5..offset + 7].copy_from_slice(&(content as u16).to_be_bytes());
    if let Some(child) = last_child {
        page[offset + 8..offset + 12].copy_from_slice(&child.to_be_bytes());
    }
    page
}

fn table_cell(number: i64, record: &[u8]) -> Vec<u8> {
    [varint(record.len() as i64).as_slice(), &varint(number), record].concat()
}

fn index_cell(record: &[u8]) -> Vec<u8> {
    [varint(record.len() as i64).as_slice(), record].concat()
}

/// Returns a row in SQLite's record format: a header with the types of all values, then the values.
fn record(values: &[Value]) -> Vec<u8> {
    let (mut types, mut content) = (Vec::new(), Vec::new());
    for value in values {
        match value {
            Value::Null => types.push(0),
            Value::Integer(number) => {
                let (kind, bytes) = match number {
                    -0x80..=0x7f => (1, 1),
                    -0x8000..=0x7fff => (2, 2),
                    -0x80_0000..=0x7f_ffff => (3, 3),
                    -0x8000_0000..=0x7fff_ffff => (4, 4),
                    -0x8000_0000_0000..=0x7fff_ffff_ffff => (5, 6),
                    _ => (6, 8),
                };
                types.push(kind);
                content.extend_from_slice(&number.to_be_bytes()[8 - bytes..]);
            }
            Value::Text(text) => {
                types.extend(varint(13 + 2 * text.len() as i64));
                content.extend_from_slice(text.as_bytes());
            }
        }
    }
    // The header size includes its own byte. It is below 128 because rows are short.
    let mut record = varint(types.len() as i64 + 1);
    record.extend(types);
    record.extend(content);
    record
}

/// Returns a number in 1 to 9 bytes: 7 bits per byte, the highest first, and 8 bits in the ninth.
fn varint(number: i64) -> Vec<u8> {
    let mut rest = number.cast_unsigned();
    if rest > u64::MAX >> 8 {
        let mut bytes = vec![(rest & 0xff) as u8];
        rest >>= 8;
        for _ in 0..8 {
            bytes.push((rest & 0x7f) as u8 | 0x80);
            rest >>= 7;
        }
        bytes.reverse();
        return bytes;
    }
    let mut bytes = vec![(rest & 0x7f) as u8];
    rest >>= 7;
    while rest > 0 {
        bytes.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    bytes.reverse();
    bytes
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::machine;

    /// Prints the result of SQLite's integrity check, all rows, and some rows found through the
    /// index.
    const READ: &str = "
import json, sqlite3, sys
db = sqlite3.connect('file:' + sys.argv[1] + '?mode=ro&immutable=1', uri=True)
rows = db.execute('SELECT n, name FROM t ORDER BY rowid').fetchall()
found = [db.execute('SELECT n FROM t WHERE name = ?', (name,)).fetchone()[0] for _, name in rows[::97]]
plan = db.execute('EXPLAIN QUERY PLAN SELECT n FROM t WHERE name = ?', ('x',)).fetchone()[3]
print(json.dumps([db.execute('PRAGMA integrity_check').fetchall(), rows, found, plan]))
";

    #[test]
    fn sqlite_finds_every_row() {
        let Some(python) = machine::python() else { return };
        let folder = tempfile::tempdir().unwrap();
        let numbers = [0, 1, -1, 127, -129, 40_000, -9_000_000, 3_000_000_000, 1 << 50, i64::MIN, i64::MAX];
        // Empty, one leaf, just above one leaf, two and three levels, and counts around the ends of
        // leaves.
        for count in [0, 1, 2, 60, 61, 62, 63, 120, 121, 122, 123, 124, 125, 126, 127, 128, 6_000, 60_000] {
            let rows: Vec<(i64, String)> = (0..count)
                .map(|row| (numbers[row % numbers.len()], format!("{row:08}-a-name-of-some-length-é")))
                .collect();
            let path = folder.path().join(format!("{count}.sqlite"));
            let mut database = Database::create(&path).unwrap();
            let (mut table, mut by_name) = (Tree::table(), Tree::index());
            for (number, name) in &rows {
                let row = table.push(&mut database, &[Value::Integer(*number), Value::Text(name)]).unwrap();
                by_name.push(&mut database, &[Value::Text(name), Value::Integer(row)]).unwrap();
            }
            database.add_table("t", "CREATE TABLE t (n INTEGER, name TEXT UNIQUE)", table).unwrap();
            database.add_index("sqlite_autoindex_t_1", "t", None, by_name).unwrap();
            database.finish().unwrap();
            let seen = Command::new(&python).args(["-c", READ]).arg(&path).output().unwrap();
            assert!(seen.status.success(), "{count}: {}", String::from_utf8_lossy(&seen.stderr));
            let seen: serde_json::Value = serde_json::from_slice(&seen.stdout).unwrap();
            let found: Vec<i64> = rows.iter().step_by(97).map(|(number, _)| *number).collect();
            let plan = "SEARCH t USING INDEX sqlite_autoindex_t_1 (name=?)";
            assert_eq!(seen, serde_json::json!([[["ok"]], rows, found, plan]), "{count} rows");
        }
    }
}
