//! The tables of features in the README and in the crate's documentation.

use std::collections::BTreeMap;

const MANIFEST: &str = include_str!("../Cargo.toml");
const README: &str = include_str!("../README.md");
const CRATE: &str = include_str!("../src/lib.rs");

/// The rows of the table of features, without the markup of links.
fn table(document: &str) -> Vec<String> {
    let lines = document.lines().map(|line| {
        let text = line.strip_prefix("//!").unwrap_or(line);
        text.trim().replace("[`", "`").replace("`]", "`")
    });
    let table = lines.skip_while(|line| !line.starts_with("| feature |"));
    table
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .collect()
}

/// The names in the section `[features]` of the manifest, and those that each enables. Cargo writes
/// a list over several lines when it packages the crate.
fn manifest() -> BTreeMap<&'static str, Vec<&'static str>> {
    let (_, section) = MANIFEST.split_once("\n[features]\n").unwrap();
    let section = section.split("\n[").next().unwrap();
    let mut features = BTreeMap::new();
    let mut rest = section;
    while let Some((before, after)) = rest.split_once(" = [") {
        let (list, after) = after.split_once(']').unwrap();
        let name = before.lines().last().unwrap();
        features.insert(name, list.split('"').skip(1).step_by(2).collect());
        rest = after;
    }
    features
}

#[test]
fn the_readme_and_the_crate_have_the_same_table() {
    let rows = table(README);
    assert!(rows.len() > 5, "{rows:?}");
    assert_eq!(rows, table(CRATE));
}

#[test]
fn the_table_has_each_feature_and_says_whether_it_is_a_default() {
    let manifest = manifest();
    let is_public = |name: &&str| *name != "default" && !name.starts_with('_');
    let expected = manifest.keys().copied().filter(is_public).map(|name| {
        let is_default = manifest["default"].contains(&name);
        (
            name.to_owned(),
            if is_default { "yes" } else { "no" }.to_owned(),
        )
    });
    let expected: BTreeMap<String, String> = expected.collect();
    assert!(expected.len() > 5, "{expected:?}");

    let mut found = BTreeMap::new();
    for row in table(README) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let [_, names, default, ..] = cells.as_slice() else {
            panic!("{row}");
        };
        for name in names.split('`').skip(1).step_by(2) {
            let before = found.insert(name.to_owned(), (*default).to_owned());
            assert_eq!(before, None, "{name} is in the table twice");
        }
    }
    assert_eq!(found, expected);
}
