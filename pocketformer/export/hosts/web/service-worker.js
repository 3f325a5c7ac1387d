/* Keeps the page, the libraries and the model, so that it works without a network. precache.js is written by prepare.mjs:
   its version is a hash over all files, so a changed file gives a new cache, whole or not at all. */
/* global PRECACHE */
importScripts("precache.js");

const PREFIX = "pocketformer-";
const CACHE = PREFIX + PRECACHE.version;

self.addEventListener("install", (event) => {
  event.waitUntil((async () => {
    const cache = await caches.open(CACHE);
    await Promise.all(Object.entries(PRECACHE.files).map(async ([path, integrity]) => {
      const request = new Request(path, { cache: "no-cache", integrity });
      const response = await fetch(request);
      if (!response.ok) throw new Error(`${path}: HTTP status ${response.status}`);
      await cache.put(path, response);
    }));
  })());
});

self.addEventListener("activate", (event) => {
  event.waitUntil((async () => {
    const names = await caches.keys();
    await Promise.all(names.filter((name) => name.startsWith(PREFIX) && name !== CACHE).map((name) => caches.delete(name)));
    await self.clients.claim();
  })());
});

self.addEventListener("fetch", (event) => {
  if (event.request.method !== "GET" || new URL(event.request.url).origin !== self.location.origin) return;
  event.respondWith((async () => {
    const cache = await caches.open(CACHE);
    const kept = await cache.match(event.request, { ignoreSearch: event.request.mode === "navigate" });
    return kept ?? fetch(event.request);
  })());
});
