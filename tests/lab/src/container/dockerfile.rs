//! Parser of the Dockerfile, limited to the instructions that ours uses.

use std::collections::BTreeMap;

/// The last stage, which becomes the image.
#[derive(Debug, Default)]
pub struct Dockerfile {
    /// Base image, such as `debian:bookworm-slim`.
    pub base: String,
    /// Build steps in order.
    pub steps: Vec<Step>,
    /// Environment variables.
    pub environment: BTreeMap<String, String>,
    /// User and group ids of its processes.
    pub user: (u32, u32),
    /// Entry point: program and first arguments.
    pub entry: Vec<String>,
    /// Command of the health check.
    pub healthcheck: Vec<String>,
    /// Volumes.
    pub volumes: Vec<String>,
    /// Base images of the earlier stages.
    pub builders: Vec<String>,
}

/// One build step.
#[derive(Debug)]
pub enum Step {
    /// Runs a script as root.
    Run(String),
    /// Copies files of an earlier stage into a directory.
    Copy {
        /// Paths in the earlier stage.
        files: Vec<String>,
        /// Target directory, with a trailing slash.
        directory: String,
    },
}

impl Dockerfile {
    /// Parses a Dockerfile.
    ///
    /// # Panics
    /// If it contains an unsupported instruction.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut last = Self::default();
        for instruction in instructions(text) {
            let (keyword, rest) = instruction.split_once(' ').unwrap_or((&instruction, ""));
            if keyword == "FROM" {
                let mut builders = last.builders;
                builders.extend(Some(last.base).filter(|base| !base.is_empty()));
                let base = rest.split_whitespace().next().unwrap_or_default().to_owned();
                last = Self { base, builders, ..Self::default() };
            } else {
                last.take(keyword, rest.trim());
            }
        }
        last
    }

    /// Returns the Debian release of the base image.
    ///
    /// # Panics
    /// If the base image is not Debian.
    #[must_use]
    pub fn suite(&self) -> &str {
        let tag = self.base.strip_prefix("debian:").expect("the image begins with Debian");
        tag.trim_end_matches("-slim")
    }

    /// Returns the packages that are installed.
    #[must_use]
    pub fn packages(&self) -> Vec<&str> {
        let runs = self.steps.iter().filter_map(|step| match step {
            Step::Run(script) => Some(script.as_str()),
            Step::Copy { .. } => None,
        });
        let installs = runs.flat_map(|script| script.split("&&")).filter_map(|line| {
            let (_, words) = line.split_once("apt-get install")?;
            Some(words.split_whitespace().filter(|word| !word.starts_with('-')))
        });
        installs.flatten().collect()
    }

    /// Returns the steps that do not concern packages.
    pub fn scripts(&self) -> impl Iterator<Item = &Step> {
        self.steps.iter().filter(|step| !matches!(step, Step::Run(script) if script.contains("apt-get")))
    }

    fn take(&mut self, keyword: &str, rest: &str) {
        match keyword {
            "RUN" => self.steps.push(Step::Run(rest.to_owned())),
            "COPY" => self.steps.push(copy(rest)),
            "ENV" => {
                let (name, value) = rest.split_once('=').expect("NAME=VALUE");
                self.environment.insert(name.to_owned(), value.to_owned());
            }
            "USER" => {
                let (user, group) = rest.split_once(':').expect("USER:GROUP");
                self.user = (number(user), number(group));
            }
            "ENTRYPOINT" => self.entry = list(rest),
            "HEALTHCHECK" => self.healthcheck = list(rest.split_once("CMD ").expect("CMD").1),
            "VOLUME" => self.volumes.push(rest.to_owned()),
            // Metadata and build options.
            "LABEL" | "EXPOSE" | "WORKDIR" | "ARG" => {}
            _ => panic!("unsupported instruction {keyword}"),
        }
    }
}

/// Returns one instruction per line, without comments.
fn instructions(text: &str) -> Vec<String> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let joined = lines.collect::<Vec<_>>().join("\n").replace("\\\n", " ");
    joined.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

fn copy(rest: &str) -> Step {
    let mut files: Vec<_> =
        rest.split_whitespace().filter(|word| !word.starts_with("--")).map(str::to_owned).collect();
    let directory = files.pop().expect("COPY has a destination");
    Step::Copy { files, directory }
}

fn list(json: &str) -> Vec<String> {
    serde_json::from_str(json).unwrap_or_else(|error| panic!("{json}: {error}"))
}

fn number(text: &str) -> u32 {
    text.parse().unwrap_or_else(|_| panic!("{text} is not a numeric id"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_stage_is_parsed() {
        let dockerfile = Dockerfile::parse(
            "# syntax=docker/dockerfile:1\nFROM rust:1 AS build\nRUN cargo build\n\nFROM debian:bookworm-slim\n\
             RUN apt-get update \\\n && apt-get install --yes a b \\\n && rm x\nCOPY --from=build /src/p /q /usr/bin/\n\
             # why\nUSER 1:2\nENV A=b=c\nHEALTHCHECK --timeout=5s CMD [\"p\"]\nENTRYPOINT [\"q\", \"-x\"]\n",
        );
        assert_eq!((dockerfile.suite(), dockerfile.packages()), ("bookworm", vec!["a", "b"]));
        assert_eq!((dockerfile.builders, dockerfile.user), (vec!["rust:1".to_owned()], (1, 2)));
        assert_eq!(
            (dockerfile.entry, dockerfile.healthcheck),
            (vec!["q".into(), "-x".into()], vec!["p".into()])
        );
        assert_eq!(dockerfile.environment["A"], "b=c");
        assert!(
            matches!(&dockerfile.steps[1], Step::Copy { files, directory } if files.len() == 2 && directory == "/usr/bin/")
        );
    }
}
