//! `homifs mount`: checks what was asked, and serves it here or starts the process that does.

use std::path::Path;

use homifs_options::{MountOptions, asks_for_help, help_text};

use crate::arguments::Mount;
use crate::failure::{Failure, exit};
use crate::{Result, daemon, join, logging, ready};

pub(crate) fn run(arguments: &Mount) -> Result {
    if arguments.options.iter().any(|list| asks_for_help(list)) {
        print!("{}", help_text());
        return Ok(());
    }
    let mut options = MountOptions::default();
    for list in &arguments.options {
        options.apply(list)?;
    }
    let (Some(spec), Some(directory)) = (&arguments.spec, &arguments.directory) else {
        return Err(Failure::new(
            exit::USAGE,
            "a device and a directory are needed: homifs mount [-o OPTIONS] SPEC DIR (homifs mount --help explains)",
        ));
    };
    if arguments.daemon {
        return ready::report(|reporter| {
            logging::in_background(&options)?;
            daemon::serve(spec, directory, &options, |summary| reporter.ready(summary))
        });
    }
    if arguments.foreground {
        logging::in_foreground(&options, arguments.verbose)?;
        return daemon::serve(spec, directory, &options, |summary| {
            eprintln!("homifs: {summary}");
            Ok(())
        });
    }
    start(arguments, spec, directory, &options)
}

/// Starts a process that serves the mount, and waits until the mount answers.
fn start(arguments: &Mount, spec: &str, directory: &Path, options: &MountOptions) -> Result {
    let summary = match join::join(spec, directory, options)? {
        Some(joined) => joined,
        None => ready::start(spec, directory, options)?,
    };
    println!("{summary}");
    if arguments.verbose {
        println!("with {options}");
    }
    Ok(())
}
