/*<![CDATA[*/
// Tabs, search, collapsing. Without this script everything is there, one below the other.
(function () {
    "use strict";
    var all = function (selector, within) { return Array.prototype.slice.call((within || document).querySelectorAll(selector)); };

    // Tabs: a group's panels carry their titles.
    all("[data-tabs]").forEach(function (group, number) {
        var panels = all(":scope > [data-tab]", group), bar = document.createElement("div"), buttons = [];
        var show = function (chosen) {
            panels.forEach(function (panel, i) { panel.hidden = i !== chosen; });
            buttons.forEach(function (button, i) { button.setAttribute("aria-selected", i === chosen ? "true" : "false"); button.tabIndex = i === chosen ? 0 : -1; });
        };
        bar.className = "tabs";
        bar.setAttribute("role", "tablist");
        panels.forEach(function (panel, i) {
            var button = document.createElement("button");
            button.type = "button";
            button.textContent = panel.getAttribute("data-tab");
            button.setAttribute("role", "tab");
            panel.id = panel.id || "panel-" + number + "-" + i;
            button.setAttribute("aria-controls", panel.id);
            panel.setAttribute("role", "tabpanel");
            button.addEventListener("click", function () { show(i); });
            button.addEventListener("keydown", function (event) {
                var step = event.key === "ArrowRight" ? 1 : event.key === "ArrowLeft" ? -1 : 0, next = (i + step + panels.length) % panels.length;
                if (step) { show(next); buttons[next].focus(); }
            });
            buttons.push(button);
            bar.appendChild(button);
        });
        group.insertBefore(bar, group.firstChild);
        group.classList.add("tabbed");
        show(0);
        window.addEventListener("beforeprint", function () { panels.forEach(function (panel) { panel.hidden = false; }); });
        window.addEventListener("afterprint", function () { show(0); });
    });

    // Search: rows or kernels that hold every word stay.
    all("[data-search]").forEach(function (place) {
        var field = document.createElement("input"), items = all(place.getAttribute("data-search"));
        field.type = "search";
        field.placeholder = place.getAttribute("data-hint");
        field.setAttribute("aria-label", field.placeholder);
        field.addEventListener("input", function () {
            var words = field.value.toLowerCase().split(/\s+/);
            items.forEach(function (item) {
                var text = (item.getAttribute("data-name") || item.textContent).toLowerCase();
                item.hidden = !words.every(function (word) { return text.indexOf(word) !== -1; });
            });
        });
        place.appendChild(field);
    });

    // Everything within a section opened or closed at once.
    all("[data-open]").forEach(function (place) {
        ["open all", "close all"].forEach(function (label, which) {
            var button = document.createElement("button");
            button.type = "button";
            button.textContent = label;
            button.addEventListener("click", function () { all("details", place.closest("section")).forEach(function (details) { details.open = which === 0; }); });
            place.appendChild(button);
        });
    });
})();
/*]]>*/
