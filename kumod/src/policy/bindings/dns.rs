//! `kumo.dns`: how DNS is asked, said in `init`, and questions of the policy's own, asked in any other handler.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use mlua::{IntoLua, Lua, Table, Value};

use super::{fail, options, record, text};
use crate::config::{ResolverSpec, parse_duration};
use crate::dns::{Dns, DnsError, MailHosts, reversed};
use crate::policy::Lookups;

/// Resolvers that a policy can define.
const RESOLVERS_MAX: usize = 64;
/// Bounds of `set_mx_timeout`, in seconds.
const TIMEOUT_MAX: Duration = Duration::from_secs(60);
/// RFC 2308 5: a day at most.
const NEGATIVE_TTL_MAX: Duration = Duration::from_secs(86_400);
/// Questions under way at once: each takes a socket.
const LOOKUPS_MAX: u64 = 4096;
/// Answers kept: each takes some hundreds of bytes.
const CACHE_ENTRIES_MAX: u64 = 16 << 20;

/// KumoMTA's other functions of this module.
const KUMOMTA_ONLY: [&str; 4] =
    ["configure_test_resolver", "configure_unbound_resolver", "ptr_host", "rbl_lookup"];

/// Where the resolvers are once the process serves.
pub(in crate::policy) type Desk = Arc<OnceLock<Lookups>>;

pub(super) fn install(lua: &Lua, module: &Table) -> mlua::Result<()> {
    let dns = lua.create_table()?;
    dns.set("configure_resolver", lua.create_function(configure_resolver)?)?;
    dns.set("define_resolver", lua.create_function(define_resolver)?)?;
    dns.set("set_mx_timeout", lua.create_function(set_mx_timeout)?)?;
    dns.set("set_mx_negative_cache_ttl", lua.create_function(set_mx_negative_cache_ttl)?)?;
    dns.set("set_mx_concurrency_limit", lua.create_function(set_mx_concurrency_limit)?)?;
    dns.set("set_mx_cache_size", lua.create_function(set_mx_cache_size)?)?;
    dns.set("lookup_mx", lua.create_function(lookup_mx)?)?;
    dns.set("lookup_addr", lua.create_function(lookup_addr)?)?;
    dns.set("lookup_txt", lua.create_function(lookup_txt)?)?;
    dns.set("lookup_ptr", lua.create_function(lookup_ptr)?)?;
    dns.set("reverse_ip", lua.create_function(reverse_ip)?)?;
    dns.set("set_mta_sts_enabled", lua.create_function(set_mta_sts_enabled)?)?;
    let meta = lua.create_table()?;
    meta.set("__index", lua.create_function(missing)?)?;
    dns.set_metatable(Some(meta))?;
    module.set("dns", dns)
}

fn missing(lua: &Lua, (_, name): (Table, Value)) -> mlua::Result<Value> {
    let name = name.to_string()?;
    if KUMOMTA_ONLY.contains(&name.as_str()) {
        return Err(fail(lua, &format!("kumo.dns.{name}"), "is not available in this version"));
    }
    Ok(Value::Nil)
}

fn configure_resolver(lua: &Lua, given: Value) -> mlua::Result<()> {
    const FUNCTION: &str = "kumo.dns.configure_resolver";
    let spec = read_resolver(lua, FUNCTION, &given)?;
    record(lua, FUNCTION, |recorded| {
        recorded.dns.resolver = spec;
        Ok(())
    })
}

fn define_resolver(lua: &Lua, (name, given): (Value, Value)) -> mlua::Result<()> {
    const FUNCTION: &str = "kumo.dns.define_resolver";
    let name = text(lua, FUNCTION, "the resolver's name", &name)?;
    let spec = read_resolver(lua, FUNCTION, &given)?;
    record(lua, FUNCTION, |recorded| {
        if recorded.dns.named.len() >= RESOLVERS_MAX {
            return Err(format!("{RESOLVERS_MAX} resolvers are the most"));
        }
        match recorded.dns.named.insert(name.clone(), spec) {
            Some(_) => Err(format!("'{name}' is defined already")),
            None => Ok(()),
        }
    })
}

fn read_resolver(lua: &Lua, function: &str, given: &Value) -> mlua::Result<ResolverSpec> {
    let spec: ResolverSpec = options::read(lua, function, given, &[])?;
    spec.check().map_err(|reason| fail(lua, function, reason))?;
    Ok(spec)
}

fn set_mx_timeout(lua: &Lua, given: Value) -> mlua::Result<()> {
    const FUNCTION: &str = "kumo.dns.set_mx_timeout";
    let timeout = span(lua, FUNCTION, &given, TIMEOUT_MAX)?;
    record(lua, FUNCTION, |recorded| {
        recorded.dns.timeout = timeout;
        Ok(())
    })
}

fn set_mx_negative_cache_ttl(lua: &Lua, given: Value) -> mlua::Result<()> {
    const FUNCTION: &str = "kumo.dns.set_mx_negative_cache_ttl";
    let ttl = span(lua, FUNCTION, &given, NEGATIVE_TTL_MAX)?;
    record(lua, FUNCTION, |recorded| {
        recorded.dns.negative_ttl_max = ttl;
        Ok(())
    })
}

fn set_mx_concurrency_limit(lua: &Lua, given: Value) -> mlua::Result<()> {
    const FUNCTION: &str = "kumo.dns.set_mx_concurrency_limit";
    let limit = count(lua, FUNCTION, &given, LOOKUPS_MAX)?;
    record(lua, FUNCTION, |recorded| {
        recorded.dns.lookups_max = limit;
        Ok(())
    })
}

fn set_mx_cache_size(lua: &Lua, given: Value) -> mlua::Result<()> {
    const FUNCTION: &str = "kumo.dns.set_mx_cache_size";
    let size = count(lua, FUNCTION, &given, CACHE_ENTRIES_MAX)?;
    record(lua, FUNCTION, |recorded| {
        recorded.dns.cache_entries_max = size;
        Ok(())
    })
}

fn set_mta_sts_enabled(lua: &Lua, given: Value) -> mlua::Result<()> {
    const FUNCTION: &str = "kumo.dns.set_mta_sts_enabled";
    let Value::Boolean(enabled) = given else {
        return Err(fail(
            lua,
            FUNCTION,
            format!("true or false is wanted; a {} was given", given.type_name()),
        ));
    };
    record(lua, FUNCTION, |recorded| {
        recorded.mta_sts.enabled = enabled;
        Ok(())
    })
}

/// A duration above 0, as text or as a number of seconds.
fn span(lua: &Lua, function: &str, given: &Value, most: Duration) -> mlua::Result<Duration> {
    let words = match given {
        Value::String(words) => words.to_string_lossy(),
        Value::Integer(seconds) => seconds.to_string(),
        Value::Number(seconds) => seconds.to_string(),
        other => {
            let reason = format!("a duration such as '5s' is wanted; a {} was given", other.type_name());
            return Err(fail(lua, function, reason));
        }
    };
    let read = parse_duration(&words).map_err(|reason| fail(lua, function, reason))?;
    if read == Duration::ZERO || read > most {
        return Err(fail(lua, function, format!("{words:?}: more than 0 and at most {most:?} can be used")));
    }
    Ok(read)
}

fn count(lua: &Lua, function: &str, given: &Value, most: u64) -> mlua::Result<usize> {
    let read = given.as_integer().and_then(|number| u64::try_from(number).ok());
    let fits =
        read.filter(|number| (1..=most).contains(number)).and_then(|number| usize::try_from(number).ok());
    fits.ok_or_else(|| {
        let shown = given.to_string().unwrap_or_else(|_| given.type_name().to_owned());
        fail(lua, function, format!("a whole number from 1 to {most} is wanted; {shown} was given"))
    })
}

fn lookup_mx(lua: &Lua, (domain, resolver): (Value, Value)) -> mlua::Result<Table> {
    const FUNCTION: &str = "kumo.dns.lookup_mx";
    let name = text(lua, FUNCTION, "the domain", &domain)?;
    let asked = name.clone();
    let hosts = ask(lua, FUNCTION, &resolver, |dns| async move { dns.mail_hosts(&asked).await })?;
    mail_hosts(lua, &name, &hosts)
}

fn mail_hosts(lua: &Lua, domain: &str, found: &MailHosts) -> mlua::Result<Table> {
    let answer = lua.create_table()?;
    answer.set("domain_name", domain)?;
    answer.set("site_name", found.site_name.as_str())?;
    answer.set("is_domain_literal", found.hosts.iter().any(|host| host.address.is_some()))?;
    answer.set("is_mx", found.is_mx)?;
    let (hosts, by_preference) = (lua.create_table()?, lua.create_table()?);
    for host in &found.hosts {
        hosts.push(host.name.as_str())?;
        let alike = match by_preference.get::<Option<Table>>(host.preference)? {
            Some(alike) => alike,
            None => lua.create_table()?,
        };
        alike.push(host.name.as_str())?;
        by_preference.set(host.preference, alike)?;
    }
    answer.set("hosts", hosts)?;
    answer.set("by_pref", by_preference)?;
    Ok(answer)
}

fn lookup_addr(lua: &Lua, (name, resolver): (Value, Value)) -> mlua::Result<Value> {
    const FUNCTION: &str = "kumo.dns.lookup_addr";
    let name = text(lua, FUNCTION, "the name", &name)?;
    let found = ask(lua, FUNCTION, &resolver, |dns| async move { dns.look_up_addresses(&name).await })?;
    found.iter().map(IpAddr::to_string).collect::<Vec<_>>().into_lua(lua)
}

fn lookup_txt(lua: &Lua, (name, resolver): (Value, Value)) -> mlua::Result<Value> {
    const FUNCTION: &str = "kumo.dns.lookup_txt";
    let name = text(lua, FUNCTION, "the name", &name)?;
    ask(lua, FUNCTION, &resolver, |dns| async move { dns.look_up_texts(&name).await })?.into_lua(lua)
}

fn lookup_ptr(lua: &Lua, (address, resolver): (Value, Value)) -> mlua::Result<Value> {
    const FUNCTION: &str = "kumo.dns.lookup_ptr";
    let address = ip(lua, FUNCTION, &address)?;
    ask(lua, FUNCTION, &resolver, |dns| async move { dns.look_up_names(address).await })?.into_lua(lua)
}

fn reverse_ip(lua: &Lua, address: Value) -> mlua::Result<String> {
    ip(lua, "kumo.dns.reverse_ip", &address).map(reversed)
}

fn ip(lua: &Lua, function: &str, given: &Value) -> mlua::Result<IpAddr> {
    let text = text(lua, function, "the address", given)?;
    text.parse().map_err(|_| fail(lua, function, format!("{text:?} is not an address such as '192.0.2.1'")))
}

/// Asks a resolver and waits for what it says.
fn ask<T, F>(lua: &Lua, function: &str, resolver: &Value, question: impl FnOnce(Dns) -> F) -> mlua::Result<T>
where
    T: Send + 'static,
    F: Future<Output = Result<T, DnsError>> + Send + 'static,
{
    let desk = lua.app_data_ref::<Desk>().map(|desk| Arc::clone(&desk));
    let desk = desk.as_ref().and_then(|desk| desk.get()).ok_or_else(|| {
        fail(lua, function, "DNS can be asked once kumod serves: in a handler other than 'init'")
    })?;
    let name =
        if resolver.is_nil() { None } else { Some(text(lua, function, "the resolver's name", resolver)?) };
    let dns = desk.resolver(name.as_deref()).map_err(|reason| fail(lua, function, reason))?;
    let asked = desk.wait(question(dns)).map_err(|reason| fail(lua, function, reason))?;
    asked.map_err(|error| fail(lua, function, error))
}
