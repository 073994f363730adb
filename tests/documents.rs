//! What the documents say of the code is there.

use std::{
    fs,
    path::{Path, PathBuf},
};

fn documents() -> impl Iterator<Item = PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = [root, &root.join("docs")].map(|directory| fs::read_dir(directory).unwrap());
    let files = files.into_iter().flatten().map(|file| file.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|extension| extension == "md"))
}

#[test]
fn each_file_that_a_document_links_to_is_there() {
    let mut count = 0;
    for document in documents() {
        let text = fs::read_to_string(&document).unwrap();
        for link in text.split("](").skip(1) {
            let link = link.split([')', '#']).next().unwrap();
            if link.is_empty() || link.contains("://") {
                continue;
            }
            let file = document.with_file_name(link);
            assert!(file.exists(), "{}: {link}", document.display());
            count += 1;
        }
    }
    assert!(count > 20, "{count} links");
}

#[test]
fn each_test_that_the_threat_model_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let document = fs::read_to_string(root.join("docs/threat-model.md")).unwrap();
    let mut count = 0;
    for reference in document.split('`').skip(1).step_by(2) {
        // Other names with colons are the crate's.
        let Some((file, name)) = reference.split_once("::") else {
            continue;
        };
        if Path::new(file).extension().is_none() {
            continue;
        }
        let code = fs::read_to_string(root.join(file)).expect(file);
        assert!(code.contains(&format!("fn {name}(")), "{reference}");
        count += 1;
    }
    assert!(count > 90, "{count} tests are named");
    // Each row names one.
    for row in document.lines().filter(|line| line.starts_with("| ")) {
        let header = row.starts_with("| attack |") || row.starts_with("| section |");
        let what_happens = row.starts_with("| what happens |");
        let figures = row.starts_with("| target |") || row.matches('|').count() > 4;
        assert!(
            header || what_happens || figures || row.contains(".rs::"),
            "{row}"
        );
    }
}
