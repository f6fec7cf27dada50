//! The schemas, read by a validator that is none of ours: PyPI's `jsonschema`.

use crate::harness::{Folder, ringgate, skipped};
use std::path::{Path, PathBuf};
use std::process::Command;

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A Python that has the validator, in a folder of its own.
fn python() -> Result<PathBuf, String> {
    let venv = Path::new(env!("CARGO_TARGET_TMPDIR")).join("python-jsonschema");
    let python = venv.join("bin/python");
    let run = |command: &mut Command| match command.output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        Err(error) => Err(error.to_string()),
    };
    if !venv.join("complete").exists() {
        run(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
        let packages = ["-m", "pip", "-q", "install", "jsonschema==4.25.1", "pyyaml==6.0.3"];
        run(Command::new(&python).args(packages))?;
        std::fs::write(venv.join("complete"), "").map_err(|error| error.to_string())?;
    }
    Ok(python)
}

/// Prints one line for every document that does not fit.
const VALIDATE: &str = "
import json, sys, yaml, jsonschema
schema = json.load(open(sys.argv[1]))
jsonschema.Draft202012Validator.check_schema(schema)
validator = jsonschema.Draft202012Validator(schema)
for name in sys.argv[2:]:
    for error in validator.iter_errors(yaml.safe_load(open(name))):
        print(name, list(error.absolute_path), error.message[:300])
";

/// The starter files and those of the examples fit; what is misspelt in them does not.
#[test]
fn starter_files_fit_their_schemas() {
    let python = match python() {
        Ok(python) => python,
        Err(why) => return skipped(&format!("starter_files_fit_their_schemas: {why}")),
    };
    let folder = Folder::new();
    let validate = |schema: &str, files: &[PathBuf]| {
        let text = ringgate(["schema", schema]).stdout;
        let schema = folder.write("schema.json", text);
        let mut command = Command::new(&python);
        let output = command.args(["-c", VALIDATE]).arg(schema).args(files).output();
        let output = output.expect("python runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let conf = |name: &str| repository().join("conf").join(name);
    assert_eq!(validate("config", &[conf("config.yaml")]), "");
    assert_eq!(validate("apisix", &[conf("apisix.yaml")]), "");
    let text = std::fs::read_to_string(conf("apisix.yaml")).expect("the starter file");
    let wrong = text.replacen("http_status", "http_statsu", 1).replacen("uri:", "url:", 1);
    let wrong = folder.write("wrong.yaml", wrong);
    let said = validate("apisix", &[wrong]);
    assert!(said.contains("routes"), "{said}");
}

/// Editors find the schema that the starter files name, and it is what this version prints.
#[test]
fn starter_files_name_their_schemas() {
    for (name, of) in [("config.yaml", "config"), ("apisix.yaml", "apisix")] {
        let folder = repository().join("conf");
        let text = std::fs::read_to_string(folder.join(name)).expect("a starter file");
        let line = text.lines().next().unwrap_or_default();
        let schema = line.strip_prefix("# yaml-language-server: $schema=").expect("the line");
        let kept = std::fs::read_to_string(folder.join(schema)).expect("the schema");
        let is_current = kept == ringgate(["schema", of]).stdout;
        assert!(
            is_current,
            "conf/{schema} is another version's: `make json-schema` writes it anew"
        );
    }
}
