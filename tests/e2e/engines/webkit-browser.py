# A browser of WebKitGTK for its driver, with a profile on the disk, which is its only argument. The MiniBrowser that
# comes with the library keeps nothing when it is driven, and tests end browsers to see what is left.

import os
import sys

import gi

gi.require_version("Gtk", "3.0")
gi.require_version("WebKit2", "4.1")
from gi.repository import Gtk, WebKit2  # noqa: E402

PROFILE = sys.argv[1]
# `navigator.storage`, which Safari has and WebKitGTK does not have by itself.
FEATURES = ("StorageAPI", "StorageAPIEstimate")

manager = WebKit2.WebsiteDataManager(
    base_data_directory=os.path.join(PROFILE, "data"),
    base_cache_directory=os.path.join(PROFILE, "cache"),
)
context = WebKit2.WebContext(website_data_manager=manager)
context.set_automation_allowed(True)
settings = WebKit2.Settings()
features = WebKit2.Settings.get_all_features()
for feature in (features.get(index) for index in range(features.get_length())):
    if feature.get_identifier() in FEATURES:
        settings.set_feature_enabled(feature, True)


def open_window(_session):
    view = WebKit2.WebView(web_context=context, settings=settings, is_controlled_by_automation=True)
    window = Gtk.Window()
    window.set_default_size(800, 600)
    window.add(view)
    view.connect("close", lambda _view: window.destroy())
    window.show_all()
    return view


def start(_context, session):
    # The driver refuses a browser that does not say what it is.
    info = WebKit2.ApplicationInfo()
    info.set_name("ablo-tests")
    session.set_application_info(info)
    session.connect("create-web-view", open_window)


Gtk.init([])
context.connect("automation-started", start)
Gtk.main()
