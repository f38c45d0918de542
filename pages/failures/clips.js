// Clips on cards. The server draws what cards in view ask for, a few at a time; until one is there,
// and where none can be, the card shows its drawing from above.
const AT_ONCE = 3;
const PAUSE_MS = 800;
const LOOK = 'vlm4vla:look';
const inView = new Set();
const asking = new Set();
const none = new Set();
let drawable = false;
let notBefore = 0;

const pause = (ms) => new Promise((done) => setTimeout(done, ms));

function look() {
  let kept = '';
  try { kept = localStorage.getItem(LOOK) ?? ''; } catch { /* a browser that keeps nothing */ }
  return kept === 'drawings' ? kept : 'clips';
}

const wants = (card) => card.isConnected && inView.has(card) && drawable && look() === 'clips';

// Plays while it is in view, unless a person has stopped it or wants nothing to move by itself.
function settle(card) {
  const clip = card.querySelector('.ec-clip');
  if (!clip || !card.dataset.clip) return;
  const wanted = card.dataset.pressed ? card.dataset.pressed === 'play' : !calm();
  if (wanted && inView.has(card)) clip.play().catch(() => {});
  else clip.pause();
}

function putClip(card, { src, at }) {
  const stage = card.querySelector('.ec-stage');
  if (!stage || card.querySelector('.ec-clip')) return;
  const clip = html('video', { className: 'ec-clip', loop: true, muted: true, playsInline: true, preload: 'auto' });
  clip.setAttribute('aria-hidden', 'true');
  clip.addEventListener('loadeddata', () => {
    if (!clip.isConnected) return; // another look was chosen while it came
    card.dataset.clip = '1';
    if (calm()) clip.currentTime = at;
    settle(card);
  }, { once: true });
  clip.addEventListener('error', () => {
    none.add(card.dataset.id);
    clip.remove();
    delete card.dataset.clip;
  });
  clip.src = src;
  stage.append(clip);
}

async function bring(card, clip) {
  asking.add(card.dataset.id);
  try {
    while (wants(card) && !document.hidden) {
      const answer = await fetch(clip.src);
      if (answer.status === 200) {
        await answer.blob();
        if (wants(card)) putClip(card, clip);
        return;
      }
      if (answer.status === 429) {
        notBefore = Date.now() + 1000 * Number(answer.headers.get('Retry-After') ?? 30);
        setTimeout(pump, notBefore - Date.now() + 10);
        return;
      }
      if (answer.status !== 202) {
        none.add(card.dataset.id);
        return;
      }
      await pause(PAUSE_MS);
    }
  } catch {
    none.add(card.dataset.id); // the server is gone
  } finally {
    asking.delete(card.dataset.id);
    pump();
  }
}

const clipOf = new WeakMap();

function pump() {
  if (document.hidden || Date.now() < notBefore) return;
  for (const card of inView) {
    if (asking.size >= AT_ONCE) return;
    const clip = clipOf.get(card);
    const there = asking.has(card.dataset.id) || none.has(card.dataset.id) || card.querySelector('.ec-clip');
    if (clip && !there && wants(card)) bring(card, clip);
  }
}

const seeing = new IntersectionObserver((seen) => {
  seen.forEach(({ target, isIntersecting }) => {
    if (isIntersecting) inView.add(target);
    else inView.delete(target);
    settle(target);
  });
  pump();
}, { rootMargin: '80px' });

// To be called with the cards of a new wall, and when another look was chosen.
function showClips(cards, can) {
  drawable = can;
  seeing.disconnect();
  inView.clear();
  cards.forEach((card) => {
    if (look() === 'clips') seeing.observe(card);
    else {
      card.querySelector('.ec-clip')?.remove();
      delete card.dataset.clip;
    }
  });
}

function withClip(card, clip) {
  if (!clip) return;
  clipOf.set(card, clip);
  card.querySelector('.ec-stage').addEventListener('click', () => {
    const shown = card.querySelector('.ec-clip');
    if (!card.dataset.clip || !shown) return;
    card.dataset.pressed = shown.paused ? 'play' : 'stop';
    settle(card);
  });
}

document.addEventListener('visibilitychange', () => element.isConnected && pump());
