//! The table of schemas against the installed `onnx` package.

use std::path::Path;
use std::process::Command;

/// `FORNAX_PYTHON` names an interpreter that has the package; without it `python3` is asked.
#[test]
fn the_table_is_what_the_package_has() {
    let python = std::env::var("FORNAX_PYTHON").unwrap_or_else(|_| "python3".into());
    let version = Command::new(&python).args(["-c", "import onnx; print(onnx.__version__)"]).output();
    match version {
        Ok(output) if output.stdout.starts_with(b"1.23.") => {}
        _ => {
            eprintln!("skipped: {python} has no onnx 1.23, whose schemas the table has");
            return;
        }
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tools/onnx_schema.py");
    let checked = Command::new(python).arg(script).arg("--check").output().unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}
