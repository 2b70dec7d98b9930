//! What a Dockerfile says, as far as ours goes.

use std::collections::BTreeMap;

/// The last stage, which is what the image has.
#[derive(Debug, Default)]
pub struct Dockerfile {
    /// The image that it begins with, such as `debian:bookworm-slim`.
    pub base: String,
    /// What is done to make it, in this order.
    pub steps: Vec<Step>,
    /// What programs in it know of their surroundings.
    pub environment: BTreeMap<String, String>,
    /// Who runs them: the ids of a user and a group.
    pub user: (u32, u32),
    /// The program that is run, and its first arguments.
    pub entry: Vec<String>,
    /// The program that tells whether it is well.
    pub healthcheck: Vec<String>,
    /// The folders that outlive a container.
    pub volumes: Vec<String>,
    /// The images that the earlier stages begin with.
    pub builders: Vec<String>,
}

/// Something that is done to make an image.
#[derive(Debug)]
pub enum Step {
    /// A script is run, as root.
    Run(String),
    /// Files of an earlier stage are put into a folder.
    Copy {
        /// What they are called there.
        files: Vec<String>,
        /// With a slash at its end.
        folder: String,
    },
}

impl Dockerfile {
    /// Reads one.
    ///
    /// # Panics
    /// There is something in it that has no meaning here.
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

    /// The release of Debian that it begins with.
    ///
    /// # Panics
    /// It is not Debian.
    #[must_use]
    pub fn suite(&self) -> &str {
        let tag = self.base.strip_prefix("debian:").expect("the image begins with Debian");
        tag.trim_end_matches("-slim")
    }

    /// The packages that are added to it.
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

    /// The scripts that are run and are not about packages.
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
            // About the image, or the building of it.
            "LABEL" | "EXPOSE" | "WORKDIR" | "ARG" => {}
            _ => panic!("{keyword} has no meaning here"),
        }
    }
}

/// One a line, without comments.
fn instructions(text: &str) -> Vec<String> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let joined = lines.collect::<Vec<_>>().join("\n").replace("\\\n", " ");
    joined.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

fn copy(rest: &str) -> Step {
    let mut files: Vec<_> =
        rest.split_whitespace().filter(|word| !word.starts_with("--")).map(str::to_owned).collect();
    let folder = files.pop().expect("COPY has a destination");
    Step::Copy { files, folder }
}

fn list(json: &str) -> Vec<String> {
    serde_json::from_str(json).unwrap_or_else(|error| panic!("{json}: {error}"))
}

fn number(text: &str) -> u32 {
    text.parse().unwrap_or_else(|_| panic!("{text} is no number, and names mean nothing outside the image"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_stage_is_read() {
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
            matches!(&dockerfile.steps[1], Step::Copy { files, folder } if files.len() == 2 && folder == "/usr/bin/")
        );
    }
}
