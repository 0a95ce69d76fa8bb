//! The header in the repository is the one that the functions make, and C compilers and linkers agree with it.
#![allow(missing_docs, reason = "tests are documented by their names")]

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const HEADER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/include/homifs.h");

/// The library as Cargo built it for this test.
fn library() -> PathBuf {
    let test = std::env::current_exe().expect("the test knows where it is");
    let places = test.ancestors().skip(1).take(2).map(|folder| folder.join("libhomifs.so"));
    places.into_iter().find(|path| path.exists()).expect("libhomifs.so was built")
}

fn run(command: &mut Command) -> Option<Output> {
    match command.output() {
        Ok(output) => Some(output),
        Err(error) => {
            println!("skipped: {} cannot be started: {error}", command.get_program().display());
            None
        }
    }
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn header_in_repository_is_the_generated_one() {
    let stored = std::fs::read_to_string(HEADER).expect("the header is part of the repository");
    assert_eq!(stored, homifs::header(), "run: cargo run -p homifs-c --example homifs_header");
}

/// A program that does not compile where a size, a place, a number or a signature is another, and does not link where a
/// function is missing.
fn program() -> String {
    let mut text = String::from("#include <homifs.h>\n#include <stddef.h>\n#include <stdio.h>\n");
    text.push_str(
        "#ifdef __cplusplus\n#define ASSERT static_assert\n#else\n#define ASSERT _Static_assert\n#endif\n",
    );
    for constant in homifs::CONSTANTS {
        let _ = writeln!(text, "ASSERT({0} == {1}u, \"{0}\");", constant.name, constant.value);
    }
    for record in homifs::records() {
        let name = record.name;
        let _ = writeln!(text, "ASSERT(sizeof(struct {name}) == {}, \"{name}\");", record.size);
        for member in record.members {
            let (member, offset) = (member.name, member.offset);
            let _ =
                writeln!(text, "ASSERT(offsetof(struct {name}, {member}) == {offset}, \"{name}.{member}\");");
        }
    }
    text.push_str("int main(void) {\n");
    for function in homifs::functions() {
        let kinds: Vec<&str> = function.parameters.iter().map(|(kind, _)| kind.as_str()).collect();
        let kinds = if kinds.is_empty() { "void".to_owned() } else { kinds.join(", ") };
        let _ = writeln!(
            text,
            "    {{ {0} (*there)({kinds}) = {1}; if (there == NULL) return 1; }}",
            function.returns, function.name
        );
    }
    text.push_str("    printf(\"%u\", homifs_api_version());\n    return 0;\n}\n");
    text
}

#[test]
fn header_every_compiler_at_hand_agrees_and_every_function_is_there() {
    let folder = tempfile::tempdir().expect("a folder");
    let library = library();
    for (compiler, standard, ending) in [("cc", "-std=c11", "c"), ("c++", "-std=c++17", "cc")] {
        let source = folder.path().join(format!("agree.{ending}"));
        std::fs::write(&source, program()).expect("the program can be written");
        let built = folder.path().join(format!("agree-{ending}"));
        let mut command = Command::new(compiler);
        command.args([standard, "-Wall", "-Wextra", "-Werror", "-pedantic", "-I"]);
        command.arg(Path::new(HEADER).parent().expect("the header has a folder")).arg(&source);
        let Some(output) = run(command.arg(&library).arg("-o").arg(&built)) else { return };
        assert!(output.status.success(), "{compiler}: {}", said(&output));
        let folder = library.parent().expect("the library has a folder");
        let output = run(Command::new(&built).env("LD_LIBRARY_PATH", folder)).expect("the program starts");
        assert!(output.status.success(), "{}", said(&output));
        assert_eq!(output.stdout, homifs::CONSTANTS[0].value.to_string().as_bytes());
    }
}

#[test]
fn library_exports_nothing_but_what_the_header_declares() {
    let Some(output) = run(Command::new("nm").args(["-D", "--defined-only"]).arg(library())) else { return };
    let text = said(&output);
    let mut exported: Vec<&str> = text.lines().filter_map(|line| line.split(' ').next_back()).collect();
    let functions = homifs::functions();
    let mut declared: Vec<&str> = functions.iter().map(|function| function.name).collect();
    exported.sort_unstable();
    declared.sort_unstable();
    assert_eq!(exported, declared);
}
