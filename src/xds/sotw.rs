//! The state-of-the-world protocol's requests (`xds.md` §1.2).

use std::{sync::Arc, time::Instant};

use super::{
    Event, Nonce, Options, Refused, Scope, SotwRequest,
    stream::{Protocol, Stream, machine},
};

/// A stream of the state-of-the-world protocol.
pub struct SotwStream(Stream);

machine!(SotwStream, SotwRequest);

impl SotwStream {
    /// A stream on which nothing has happened.
    pub fn new(scope: Scope, options: Options) -> Self {
        Self(Stream::new(Protocol::Sotw, scope, options))
    }

    fn request(&mut self, request: SotwRequest, now: Instant) -> Result<(), Refused> {
        let Some(type_url) = self.0.type_of(&request.type_url)? else { return Ok(()) };
        let newest = self.0.newest(type_url);
        // What a client says before it was sent anything refers to nothing, whatever nonce it kept from another stream.
        if newest.is_some() && !request.response_nonce.is_empty() {
            let nonce = Nonce::parse(&request.response_nonce);
            let place = nonce.and_then(|nonce| self.0.state(type_url).position(nonce));
            if nonce != newest {
                self.0.events.push(Event::StaleNonce { type_url });
                // It says nothing about the newest response and asks for nothing: the client repeats itself with the newest
                // nonce (P13). But what it accepted or refused before, it did.
                if let Some(place) = place {
                    self.0.on_answer(type_url, place, request.error, now);
                }
                return Ok(());
            }
            if let Some(place) = place {
                self.0.on_answer(type_url, place, request.error, now);
            }
        }

        let sets = Arc::clone(&self.0.options.names);
        let snapshot = self.0.snapshot.clone();
        let share = |name: &str| {
            let known = snapshot.as_ref().and_then(|snapshot| snapshot.view(type_url).get(name));
            known.map_or_else(|| name.into(), |resource| Arc::clone(resource.name()))
        };
        let state = self.0.state(type_url);
        let change = state.subscription.sotw(&sets, type_url, &request.names, share);
        if change.first && !request.version_info.is_empty() {
            state.returned_at = Some(now);
        }
        let is_asked = change.first || change.widened.is_some() || !change.asked.is_empty();
        if state.subscription.is_wildcard() || type_url.sotw_is_full_state() {
            state.owes |= is_asked && (state.subscription.is_wildcard() || !state.subscription.names().is_empty());
        }
        state.follow(&change);
        // A client that has every answer and speaks as if it had none has forgotten them.
        if !is_asked && request.response_nonce.is_empty() && newest.is_some() && state.in_flight.is_empty() {
            state.ask_all_again();
        }
        Ok(())
    }
}
