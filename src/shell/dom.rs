//! Events of the page: network, visibility, wake-up. Listening stops when the value is dropped. Where there is no such
//! event target (a server, a worker without a document) nothing is listened to.

use std::rc::Weak;

use wasm_bindgen::prelude::*;
use web_sys::EventTarget;

use super::driver::Driver;
use crate::core::input::Input;

struct Listener {
    target: EventTarget,
    name: &'static str,
    callback: Closure<dyn FnMut()>,
}

impl Drop for Listener {
    fn drop(&mut self) {
        let callback = self.callback.as_ref().unchecked_ref();
        drop(self.target.remove_event_listener_with_callback(self.name, callback));
    }
}

/// The listeners of one client.
pub(super) struct PageEvents {
    _listeners: Vec<Listener>,
}

impl PageEvents {
    /// Starts to listen.
    pub(super) fn listen(driver: &Weak<Driver>) -> Self {
        let global: JsValue = js_sys::global().into();
        let document = member(&global, "document");
        let mut listeners = Vec::new();
        for (target, name, input) in [
            (&global, "online", Input::Online),
            (&global, "offline", Input::Offline),
            (&global, "ablo:wake", Input::Wake),
            (&document, "visibilitychange", Input::Visible),
        ] {
            let Some(target) = target.dyn_ref::<EventTarget>() else { continue };
            let (driver, document) = (driver.clone(), document.clone());
            let callback = Closure::<dyn FnMut()>::new(move || {
                let visible = member(&document, "visibilityState").as_string();
                if input == Input::Visible && visible.as_deref() != Some("visible") {
                    return;
                }
                if let Some(driver) = driver.upgrade() {
                    driver.handle_input(input.clone());
                }
            });
            let added = target.add_event_listener_with_callback(name, callback.as_ref().unchecked_ref());
            if added.is_ok() {
                listeners.push(Listener { target: target.clone(), name, callback });
            }
        }
        Self { _listeners: listeners }
    }
}

/// Whether the system says that there is no network.
pub(super) fn is_offline() -> bool {
    let navigator = member(&js_sys::global().into(), "navigator");
    member(&navigator, "onLine").as_bool() == Some(false)
}

/// A member of an object, or `undefined`.
fn member(object: &JsValue, name: &str) -> JsValue {
    if object.is_object() {
        js_sys::Reflect::get(object, &JsValue::from_str(name)).unwrap_or(JsValue::UNDEFINED)
    } else {
        JsValue::UNDEFINED
    }
}
