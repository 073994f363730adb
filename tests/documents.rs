//! What the documents say of the code is there.

use std::{fs, path::Path};

#[test]
fn each_test_that_the_threat_model_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let document = fs::read_to_string(root.join("docs/threat-model.md")).unwrap();
    let mut count = 0;
    for reference in document.split('`').skip(1).step_by(2) {
        let Some((file, name)) = reference.split_once("::") else {
            continue;
        };
        if reference == "FILE::NAME" {
            continue;
        }
        let code = fs::read_to_string(root.join(file)).expect(file);
        assert!(code.contains(&format!("fn {name}(")), "{reference}");
        count += 1;
    }
    assert!(count > 40, "{count} tests are named");
    // Each row names one.
    for row in document.lines().filter(|line| line.starts_with("| ")) {
        let header = row.starts_with("| attack |") || row.starts_with("| section |");
        let what_happens = row.starts_with("| what happens |");
        let figures = row.starts_with("| target |") || row.matches('|').count() > 4;
        assert!(
            header || what_happens || figures || row.contains("::"),
            "{row}"
        );
    }
}
