'use strict';
// Runs before anything is drawn, so that nothing flashes: the theme that was chosen last, and that there are scripts.

const THEME = 'dtls-report-theme';
document.documentElement.classList.add('scripts');
try {
  const chosen = localStorage.getItem(THEME);
  if (chosen === 'light' || chosen === 'dark') document.documentElement.dataset.theme = chosen;
} catch { /* a browser that keeps nothing: the system's theme */ }
