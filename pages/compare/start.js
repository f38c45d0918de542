// An address that asks for it runs both, once the menus hold what it chooses; where they cannot,
// it shows the complaint instead.
(complaint) => {
  if (!new URL(location.href).searchParams.has('start')) return;
  const shown = document.querySelector(complaint ? '#duet-complaint' : '#duet');
  window.keepInSight(() => shown);
  if (!complaint) document.querySelector('#duet-run').click();
}
