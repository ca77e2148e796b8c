//! The WebSocket: its events become inputs; dropping it closes it and silences it.

use std::rc::Weak;

use js_sys::{Array, JsString, Uint8Array};
use wasm_bindgen::prelude::*;
use web_sys::{CloseEvent, MessageEvent, WebSocket};

use super::driver::Driver;
use crate::core::id::TaskId;
use crate::core::input::Input;

/// Longer texts are encoded by the browser in one go; the usual way is character by character.
const ENCODE_FROM: u32 = 4096;
/// Most bytes of UTF-8 that one unit of UTF-16 becomes.
const UTF8_PER_UNIT: u32 = 3;

#[wasm_bindgen]
extern "C" {
    type TextEncoder;
    #[wasm_bindgen(constructor)]
    fn new() -> TextEncoder;
    #[wasm_bindgen(method, js_name = encodeInto)]
    fn encode_into(this: &TextEncoder, text: &JsString, bytes: &Uint8Array) -> Encoded;
    type Encoded;
    #[wasm_bindgen(method, getter)]
    fn written(this: &Encoded) -> u32;
}

fn text_of(data: JsValue) -> Option<String> {
    let text = data.dyn_into::<JsString>().ok()?;
    if text.length() < ENCODE_FROM {
        return text.as_string();
    }
    let bytes = Uint8Array::new_with_length(text.length().saturating_mul(UTF8_PER_UNIT));
    let encoded = TextEncoder::new().encode_into(&text, &bytes);
    String::from_utf8(bytes.subarray(0, encoded.written()).to_vec()).ok()
}

/// Reported when a socket could not even be created.
pub(super) const CODE_NEVER_OPENED: u16 = 1006;

/// One socket with its listeners.
pub(super) struct Socket {
    socket: WebSocket,
    _open: Closure<dyn FnMut()>,
    _message: Closure<dyn FnMut(MessageEvent)>,
    _close: Closure<dyn FnMut(CloseEvent)>,
}

impl Socket {
    /// Starts to open a socket.
    pub(super) fn open(driver: &Weak<Driver>, task: TaskId, url: &str, protocols: &[String]) -> Result<Self, JsValue> {
        let list: Array = protocols.iter().map(|name| JsValue::from_str(name)).collect();
        let socket = WebSocket::new_with_str_sequence(url, &list)?;
        let tell = |driver: &Weak<Driver>| driver.upgrade();
        let open = {
            let driver = driver.clone();
            Closure::<dyn FnMut()>::new(move || {
                if let Some(driver) = tell(&driver) {
                    driver.handle_input(Input::SocketOpened(task));
                }
            })
        };
        let message = {
            let driver = driver.clone();
            Closure::<dyn FnMut(MessageEvent)>::new(move |event: MessageEvent| {
                // Binary frames are not part of the protocol.
                let (Some(driver), Some(text)) = (driver.upgrade(), text_of(event.data())) else { return };
                driver.handle_input(Input::SocketMessage(task, text));
            })
        };
        let close = {
            let driver = driver.clone();
            Closure::<dyn FnMut(CloseEvent)>::new(move |event: CloseEvent| {
                if let Some(driver) = driver.upgrade() {
                    driver.drop_socket(task);
                    driver.handle_input(Input::SocketClosed { socket: task, code: event.code() });
                }
            })
        };
        socket.set_onopen(Some(open.as_ref().unchecked_ref()));
        socket.set_onmessage(Some(message.as_ref().unchecked_ref()));
        socket.set_onclose(Some(close.as_ref().unchecked_ref()));
        Ok(Self { socket, _open: open, _message: message, _close: close })
    }

    /// Sends a text frame. A socket that is not open drops it; the engine sends again after the next open.
    pub(super) fn send(&self, text: &str) {
        drop(self.socket.send_with_str(text));
    }

    /// Closes with a code and a reason.
    pub(super) fn close(self, code: u16, reason: &str) {
        drop(self.socket.close_with_code_and_reason(code, reason));
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // A late event must not reach closures that are gone.
        self.socket.set_onopen(None);
        self.socket.set_onmessage(None);
        self.socket.set_onclose(None);
    }
}
