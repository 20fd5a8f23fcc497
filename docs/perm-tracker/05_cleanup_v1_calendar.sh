#!/bin/sh
# v1's calendar cleanup, under the name it has in PERM Tracker's migration scripts. Everything is done by `ledger`: what is said
# here goes on to `ledger cleanup calendar` as it is.
#
#   05_cleanup_v1_calendar.sh --dry-run [OPTIONS]   finds what is v1's, changes nothing, prints the plan's hash
#   05_cleanup_v1_calendar.sh [OPTIONS]             executes the plan in hand, the one that was begun or else the last, once
#                                                   somebody else has approved it: ledger approve HASH --as NAME
#   05_cleanup_v1_calendar.sh HASH [OPTIONS]        the same of that plan; like --plan HASH
#
# OPTIONS are those of `ledger cleanup calendar`: --as, --v2-export, --go-live, --user-interval, --log-dir, ...; --help tells all.
# Needs SUPABASE_URL, SUPABASE_KEY, ENCRYPTION_KEY, GOOGLE_CLIENT_ID and GOOGLE_CLIENT_SECRET, and CONVEX_URL and
# CONVEX_DEPLOY_KEY or an export of v2; LEDGER_BIN names the program where it is not in PATH.
set -eu

ledger=${LEDGER_BIN:-ledger}
if ! command -v "$ledger" >/dev/null 2>&1; then
    echo "error: run the calendar cleanup: there is no program $ledger" >&2
    echo "hint: put ledger into PATH, or set LEDGER_BIN to it; nothing was done" >&2
    exit 4
fi
case ${1-} in
    '' | *[!0-9A-Fa-f]*) ;;
    *)
        if [ ${#1} -ge 8 ] && [ ${#1} -le 64 ]; then
            plan=$1
            shift
            set -- --plan "$plan" "$@"
        fi
        ;;
esac
exec "$ledger" cleanup calendar "$@"
