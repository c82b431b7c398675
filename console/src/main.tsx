import "@xterm/xterm/css/xterm.css";
import "uplot/dist/uPlot.min.css";
import "bootstrap/dist/css/bootstrap.css";
import "./main.css";
import { render } from "preact";
import { App } from "./app";
import { apply } from "./theme";

apply();
const root = document.getElementById("app");
if (root) render(<App />, root);
