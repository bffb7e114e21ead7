// The policy, for njs: the header, else FNV-1a of the cookie.
function pool(r) {
    if (r.headersIn['x-canary'] === '1') { return 'canary'; }
    var c = r.headersIn['cookie'] || '';
    var m = /(?:^|;\s*)uid=([^;]*)/.exec(c);
    var uid = m ? m[1] : '';
    var h = 0x811c9dc5;
    for (var i = 0; i < uid.length; i++) { h = Math.imul(h ^ uid.charCodeAt(i), 0x01000193); }
    return (h >>> 0) % 100 >= 90 ? 'canary' : 'stable';
}
export default { pool };
