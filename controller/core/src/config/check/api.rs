//! The rules for `api`.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use maglev_ipc::text::is_unprintable;

use super::super::file;
use super::super::{Account, Api, ApiTls, Caller, Role, Rule};
use super::{Scope, value};

/// Bound on rules, as each call evaluates all of them.
const MAX_RULES: usize = 256;

/// Longest name of a user, a group or a certificate's subject.
const MAX_LENGTH: usize = 253;

/// The system's id for "none".
const NO_ID: i64 = 0xffff_ffff;

pub fn api(scope: &mut Scope<'_>, api: &file::Api) -> Option<Api> {
    let tls = value::optional(api.tls.as_ref(), |files| tls(&mut scope.at("tls"), files));
    let roles = rules(&mut scope.at("roles"), api);
    Some(Api { tls: tls?, roles: roles?, loopback_role: api.loopback_role.map(role).unwrap_or_default() })
}

fn tls(scope: &mut Scope<'_>, tls: &file::ApiTls) -> Option<ApiTls> {
    let certificate = required_path(&mut scope.at("certificate"), tls.certificate.as_deref());
    let key = required_path(&mut scope.at("key"), tls.key.as_deref());
    let client_ca =
        value::optional(tls.client_ca.as_deref(), |given| path(&mut scope.at("client-ca"), given));
    let mut crl_scope = scope.at("client-crl");
    let client_crl = match (tls.client_crl.as_deref(), &tls.client_ca) {
        (Some(_), None) => crl_scope.refuse("client certificates are not requested: client-ca is missing"),
        (given, _) => value::optional(given, |given| path(&mut crl_scope, given)),
    };
    Some(ApiTls { certificate: certificate?, key: key?, client_ca: client_ca?, client_crl: client_crl? })
}

fn required_path(scope: &mut Scope<'_>, given: Option<&str>) -> Option<String> {
    match given {
        Some(given) => path(scope, given),
        None => scope.refuse("required"),
    }
}

/// Only absolute paths, independent of the daemon's working directory.
fn path(scope: &mut Scope<'_>, path: &str) -> Option<String> {
    if path.starts_with('/') {
        return Some(path.to_owned());
    }
    scope.refuse(format!("{path:?}: not an absolute path"))
}

fn rules(scope: &mut Scope<'_>, api: &file::Api) -> Option<Vec<Rule>> {
    if api.roles.len() > MAX_RULES {
        return scope.refuse(format!("more than {MAX_RULES} rules"));
    }
    let checks_clients = api.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some());
    let rules = api.roles.iter().enumerate();
    // Collect first: collecting into an `Option` would stop at the first error.
    let rules: Vec<_> =
        rules.map(|(index, given)| rule(&mut scope.nth(index), given, checks_clients)).collect();
    rules.into_iter().collect()
}

fn rule(scope: &mut Scope<'_>, rule: &file::Rule, checks_clients: bool) -> Option<Rule> {
    let caller = match (&rule.user, &rule.group, rule.certificate.as_deref()) {
        (Some(user), None, None) => account(&mut scope.at("user"), user).map(Caller::User),
        (None, Some(group), None) => account(&mut scope.at("group"), group).map(Caller::Group),
        (None, None, Some(name)) => {
            certificate(&mut scope.at("certificate"), name, checks_clients).map(Caller::Certificate)
        }
        _ => scope.refuse("exactly one of user, group and certificate is required"),
    };
    let role = match rule.role {
        Some(given) => Some(role(given)),
        None => scope.at("role").refuse("required: view, operate or admin"),
    };
    Some(Rule { caller: caller?, role: role? })
}

const fn role(given: file::Role) -> Role {
    match given {
        file::Role::View => Role::View,
        file::Role::Operate => Role::Operate,
        file::Role::Admin => Role::Admin,
    }
}

fn account(scope: &mut Scope<'_>, account: &file::Account) -> Option<Account> {
    match account {
        file::Account::Id(id) => match u32::try_from(*id) {
            Ok(valid) if *id != NO_ID => Some(Account::Id(valid)),
            _ => scope.refuse(format!("{id} is not within 0 to {}", NO_ID - 1)),
        },
        file::Account::Name(name) if is_account_name(name) => Some(Account::Name(name.clone())),
        file::Account::Name(name) => scope.refuse(format!("{name:?} is not a name of a user or a group")),
    }
}

/// Rejects only impossible names: directory services allow blanks and more.
fn is_account_name(name: &str) -> bool {
    let is_number = name.bytes().all(|b| b.is_ascii_digit());
    (1..=MAX_LENGTH).contains(&name.len())
        && !is_number
        && !name.contains(|c: char| is_unprintable(c) || c == ':' || c == ',')
}

/// DNS name as in the certificate.
fn certificate(scope: &mut Scope<'_>, name: &str, checks_clients: bool) -> Option<String> {
    if !checks_clients {
        return scope.refuse("client certificates are not requested: maglev.api.tls.client-ca is missing");
    }
    if !(1..=MAX_LENGTH).contains(&name.len()) || name.contains(is_unprintable) {
        return scope.refuse(format!("{name:?} is not a name in a certificate"));
    }
    Some(name.to_owned())
}
